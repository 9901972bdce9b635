"""What Linux says about processes: who descends from whom, who belongs to a session, who dies with whom.

Only `os`, `struct` and `ctypes` are imported, since a keeper waits for this module before it starts anything.
"""

import ctypes
import os
import struct

from ray.session.names import SESSION_VARIABLE

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
# Should memory run out all the same, the system's killer takes a worker, and what it has started, before
# anybody else; and those that hold the session together last. In thousandths of the memory allowed.
OOM_SCORE_OF_WORKERS = 500
OOM_SCORE_OF_SERVICES = -500
TURN_NS = 500_000  # shorter than the 1.4 to 3 ms that Linux gives by itself
LEFT_STATUS = 72  # of a node manager whose node has been drained, and is to end

_libc = ctypes.CDLL(None, use_errno=True)
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}  # numbers of the system call
_SCHED_ATTR = struct.Struct("IIQiIQQQ")


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"prctl({option})")


def become_subreaper() -> None:
    """From now on orphaned descendants become children of this process, not of init."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def signal_on_parent_death(parent: int, signum: int) -> None:
    """Asks for a signal when the parent, and later each subreaper that adopts this process, dies.

    Exits at once if `parent` is gone already. It is the *thread* that forked whose end counts, so
    parents fork from their main thread only (prctl(2)).
    """
    _prctl(PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:
        os._exit(1)


def take_short_turns() -> None:
    """From now on this thread, and those that it starts, run soon after they are woken, and a short while.

    Between processes that compute all the time, whoever sleeps and is woken often otherwise waits for the
    ends of their turns. It gets no more of the processor's time by it, and needs no rights (sched_setattr(2),
    Linux 6.12; before that it does nothing).
    """
    number = _SCHED_SETATTR.get(os.uname().machine)
    if number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _SCHED_ATTR.pack(_SCHED_ATTR.size, os.SCHED_OTHER, 0, nice, 0, TURN_NS, 0, 0)
    _libc.syscall(number, 0, ctypes.c_char_p(attributes), 0)  # refused: then it is as it was


def set_name(name: str) -> None:
    """The name that `ps -e` and `top` show; the system keeps the first 15 bytes."""
    _write_own("comm", name)


def name(pid: int) -> str:
    """The same of another process; "gone" when it is."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "gone"


def set_oom_score(score: int) -> None:
    """Sets how soon the out-of-memory killer takes this process and those it will start.

    A lower score than the present one needs a privilege; without it nothing changes.
    """
    try:
        _write_own("oom_score_adj", str(score))
    except OSError:
        return


def _write_own(name: str, text: str) -> None:
    """Without a file object: each worker would build one, of pages that it otherwise shares."""
    fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def stat(pid: int) -> tuple[str, int, int] | None:
    """State letter, parent and start time (clock ticks since boot) of a process; None if it is gone, or is
    another user's and /proc shows only one's own (hidepid, proc(5))."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return None
    # The command's name, in parentheses, may hold anything; the fields after it do not (proc(5)).
    fields = text[text.rindex(b")") + 2 :].split()
    return fields[0].decode(), int(fields[1]), int(fields[19])


def is_alive(pid: int, start_time: int) -> bool:
    """Whether this very process still runs: not gone, not a zombie, its number not given to another."""
    found = stat(pid)
    if found is None:
        return _is_hidden(pid)
    return found[2] == start_time and found[0] not in "ZX"


def _is_hidden(pid: int) -> bool:
    """Whether there is such a process, which /proc does not show: of another user, with hidepid. Its number
    may have been given to another since."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    return False  # it may be signalled, so it would be seen


def _parents() -> dict[int, int]:
    """Parent of every process that can be seen."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            found = stat(int(entry))
            if found is not None:
                parents[int(entry)] = found[1]
    return parents


def _closure(roots: set[int], parents: dict[int, int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    ahead = list(roots)
    while ahead:
        for child in children.get(ahead.pop(), ()):
            if child not in found:
                found.add(child)
                ahead.append(child)
    return found


def descendants(pid: int) -> set[int]:
    """All descendants of a process, zombies included. /proc/PID/task/*/children is not in every kernel."""
    return _closure({pid}, _parents())


def trees(roots: set[int]) -> dict[int, set[int]]:
    """Each of these processes with all its descendants."""
    parents = _parents()
    return {root: _closure({root}, parents) | {root} for root in roots}


def of_session(token: str) -> set[int]:
    """Processes that carry a session's variable, and their descendants, but not the caller."""
    mark = f"{SESSION_VARIABLE}={token}".encode()
    parents = _parents()
    marked = set()
    for pid in parents:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    marked.add(pid)
        except OSError:
            continue  # gone, or another user's
    return (marked | _closure(marked, parents)) - {os.getpid()}


def keep_only(*kept: int) -> None:
    """Closes every descriptor above standard error but these, which programs started from here won't see."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)  # a standard stream that the driver had closed
    os.close(fd)
    for entry in os.listdir("/proc/self/fd"):
        fd = int(entry)
        if fd in kept:
            os.set_inheritable(fd, False)
        elif fd > 2:
            try:
                os.close(fd)
            except OSError:
                continue  # the listing's own descriptor
