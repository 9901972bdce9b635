"""Ending what belongs to a session and nothing else: by descent and by its variable, never by name."""

import os
import select
import time

from ray.core.logs import CODE_FOLDER
from ray.session import processes
from ray.session.spec import KeeperSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ray._kernel import Arena

SHUT_S = 0.2  # for the arena's mutex, which a stopped process may hold until it is killed
LOOK_AGAIN_S = 0.005
ORPHANS_S = 1.5  # to end a session whose keeper was killed
SIGKILL = 9


def kill(pids: set[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def kill_until_none(find: "Callable[[], set[int]]", timeout_s: float) -> bool:
    """Kills what `find` finds, and looks again, since the dying may have forked; True when none is left."""
    deadline = time.monotonic() + timeout_s
    while victims := find():
        if time.monotonic() > deadline:
            return False
        kill(victims)
        wait_for_deaths(victims, LOOK_AGAIN_S)
    return True


def wait_for_deaths(pids: set[int], timeout_s: float) -> None:
    """Until all of them have died, or the time is over; they need not be children."""
    deadline = time.monotonic() + timeout_s
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
        finally:
            os.close(fd)


def end_children(spec: KeeperSpec, template: int, arena: "Callable[[], Arena]") -> None:
    """The keeper's end: shuts the arena, lets the workers flush, then kills and reaps every descendant."""
    shut_in_background(arena)
    if template:
        # The template goes when its workers are gone.
        wait_for_deaths({template}, spec.setting("term_grace_ms") / 1000)
        kill({template})  # before its workers: it could fork new ones
    kill_until_none(_unreaped_descendants, spec.setting("end_ms") / 1000)
    if spec.admission_key:
        remove_token_file(arena())
        remove_code(spec.logs)


def remove_token_file(arena: "Arena") -> None:
    """The token goes with its cluster, unless the user has named its file, or another cluster has put its
    own there."""
    import json

    record = json.loads(arena.session() or b"{}")
    if not record.get("removes_token_file"):
        return
    try:
        with open(record["token_file"], encoding="ascii") as file:
            is_ours = file.read().strip() == record["cluster_token"]
        if is_ours:
            os.unlink(record["token_file"])
    except (OSError, UnicodeDecodeError):
        return


def remove_code(logs: str) -> None:
    """The scripts' modules that came from other nodes go with the session (`ray.core.script_code`)."""
    folder = os.path.join(logs, CODE_FOLDER)
    if logs and os.path.isdir(folder) and not os.path.islink(folder):
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


def end_orphans(arena: "Arena", token: str) -> None:
    """For those who survive a killed keeper: the session can't go on, so all of it is ended here."""
    shut_in_background(lambda: arena)
    kill_until_none(lambda: _unreaped_descendants() | processes.of_session(token), ORPHANS_S)
    remove_token_file(arena)
    import json

    remove_code(json.loads(arena.session() or b"{}").get("logs", ""))


def wait_for_children(timeout_s: float) -> None:
    """Reaps children until none is left, or the time is over."""
    deadline = time.monotonic() + timeout_s
    while (children := _unreaped_descendants()) and time.monotonic() < deadline:
        wait_for_deaths(children, deadline - time.monotonic())


def _unreaped_descendants() -> set[int]:
    """Descendants of this subreaper that are left after reaping; without a child there is none."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return processes.descendants(os.getpid())
        except ChildProcessError:
            return set()


def shut_in_background(arena: "Callable[[], Arena]") -> None:
    """Ends every call that waits in the arena; returns when that is done, or after SHUT_S.

    In a thread of its own, since a stopped process may hold the arena's mutex until it is killed.
    """
    import _thread

    done = _thread.allocate_lock()
    done.acquire()

    def shut() -> None:
        try:
            arena().shut()
        finally:
            done.release()

    try:
        _thread.start_new_thread(shut, ())
    except RuntimeError:  # the system allows no more threads
        shut()
    done.acquire(timeout=SHUT_S)
