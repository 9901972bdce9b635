"""The starter's end of its keeper: spawning it, hearing that it is ready, ending it or leaving it alone."""

import contextlib
import fcntl
import marshal
import os
import select
import signal
import sys
import time
from typing import Any

import ray
from ray.core import interrupts
from ray.core.system_limits import refused
from ray.errors import RaySystemError
from ray.session.names import SESSION_VARIABLE
from ray.session.pipes import WORD_END, WORD_RECORD, read_message, send_message
from ray.session.spec import KeeperSpec

LOOK_MS = 50  # for a Ctrl-C while the keeper starts
LOWEST_FD = 10  # clear of the standard streams, should the driver have closed them


class KeeperHandle:
    """One keeper process. Its methods are for the process that spawned it, and for one thread at a time."""

    def __init__(self, spec: KeeperSpec) -> None:
        """Spawns it; returns at once. Raises RaySystemError when the interpreter can't be run."""
        self.token = spec.token
        with contextlib.ExitStack() as given, contextlib.ExitStack() as kept:
            command_read, self._command_fd = _pipe(given, kept)
            self._report_fd, report_write = _pipe(kept, given)
            spec.arena_fd = _high(spec.arena_fd, given)
            if spec.spill_fd >= 0:
                spec.spill_fd = _high(spec.spill_fd, given)
            if spec.link_fd >= 0:
                spec.link_fd = _high(spec.link_fd, given)
            self.pid = _spawn(spec, command_read, report_write)
            try:
                self._pidfd = os.pidfd_open(self.pid)
            except BaseException:
                os.kill(self.pid, signal.SIGKILL)
                self._reap()
                raise
            kept.pop_all()
        with contextlib.suppress(BrokenPipeError):  # it died at once; wait_ready says so
            send_message(self._command_fd, spec.dump())

    def wait_ready(self, timeout_ms: int) -> list[int]:
        """Waits until Redis has bound its ports, and returns them, the primary's first.

        Raises RaySystemError when the keeper fails or takes longer than that, SystemLimitError when it
        was refused what it needs.
        """
        poller = select.poll()
        poller.register(self._report_fd, select.POLLIN)
        deadline = time.monotonic() + timeout_ms / 1000
        while not poller.poll(min(timeout_ms, LOOK_MS)):
            interrupts.check()
            if time.monotonic() < deadline:
                continue
            raise RaySystemError(
                f"The session's keeper process {self.pid} did not get Redis to answer within {timeout_ms} "
                "ms. The machine may be overloaded; the setting start_ms allows more time."
            )
        message = read_message(self._report_fd)
        report: dict[str, Any] = marshal.loads(message) if message else {}
        if "refused" in report:
            what, number = report["refused"]
            raise refused(what, OSError(number, os.strerror(number)))
        if "ports" not in report:
            reason = report.get("error") or "It ended without saying why; see its output above."
            raise RaySystemError(f"The session's keeper process {self.pid} failed. {reason}")
        return list(report["ports"])

    def publish(self) -> None:
        """Says that the session's record lies in the arena: others may attach from now on."""
        self._say(WORD_RECORD)

    def end(self, timeout_ms: int) -> None:
        """Ends the session; returns when its processes are gone, the keeper among them.

        A keeper that takes longer is killed, and what is left of the session with it.
        """
        self._say(WORD_END)
        if not self.wait(timeout_ms / 1000):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        if self._reap() != 0:
            # It was killed, by us or by others. Its helpers are ending the rest, and so are we.
            end_session(self.token)
        self.detach()

    def detach(self) -> None:
        """Lets go of it: a standalone session goes on by itself."""
        for fd in (self._command_fd, self._report_fd, self._pidfd):
            os.close(fd)

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended, by itself or by others, within that time."""
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        return bool(poller.poll(timeout_s * 1000))

    def _reap(self) -> int | None:
        """Exit status of the dead keeper; None when the program has reaped it itself."""
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:
            return None

    def _say(self, word: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it is gone; `end` notices
            os.write(self._command_fd, word)


def end_session(token: str) -> None:
    """Kills what is left of a session whose keeper is gone."""
    from ray.session import end, processes  # ctypes, for something that hardly ever happens

    end.kill_until_none(lambda: processes.of_session(token), end.ORPHANS_S)


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """Its two ends, each to be closed by one of the stacks."""
    with contextlib.ExitStack() as low:
        ends = os.pipe()
        for fd in ends:
            low.callback(os.close, fd)
        return _high(ends[0], reader), _high(ends[1], writer)


def _high(fd: int, closed_by: contextlib.ExitStack) -> int:
    """A copy that is clear of the standard streams."""
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, LOWEST_FD)
    closed_by.callback(os.close, copy)
    return copy


def _spawn(spec: KeeperSpec, command_fd: int, report_fd: int) -> int:
    if not sys.executable:
        raise RaySystemError(
            "The path of the Python interpreter is not known (sys.executable is empty), so no process can be "
            "started. A program that embeds Python must set it."
        )
    boot = os.path.join(os.path.dirname(__file__), "boot.py")
    arguments = [sys.executable, "-S", *_interpreter_flags(), boot, str(command_fd), str(report_fd)]
    # Duplicating a descriptor onto itself is how posix_spawn lets the child inherit it.
    given = [fd for fd in (command_fd, report_fd, spec.arena_fd, spec.spill_fd, spec.link_fd) if fd >= 0]
    actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in given]
    actions.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))
    caught = set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
    return os.posix_spawn(
        sys.executable,
        [*arguments, *spec.package_path],
        {**os.environ, SESSION_VARIABLE: spec.token},
        file_actions=actions,
        setsid=True,  # out of the terminal's foreground group: Ctrl-C is the driver's
        setsigmask=[],
        setsigdef=caught,
    )


def _interpreter_flags() -> list[str]:
    """The driver's own, as far as they change how code runs."""
    flags = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    if sys.flags.dont_write_bytecode:
        flags.append("-B")
    if sys.flags.bytes_warning:
        flags.append("-" + "b" * sys.flags.bytes_warning)
    if sys.flags.dev_mode:
        flags += ["-X", "dev"]
    if sys.flags.utf8_mode:
        flags += ["-X", "utf8"]
    for option in sys.warnoptions:
        flags += ["-W", option]
    return flags


def package_path() -> list[str]:
    """Where the keeper finds this package: its folder, and that of the kernel if it lies elsewhere."""
    from ray import _kernel

    folders = [*ray.__path__, os.path.dirname(_kernel.__file__ or "")]
    return list(dict.fromkeys(os.path.abspath(folder) for folder in folders if folder))
