"""A worker and whatever it has started, to be killed together."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable


class ProcessTree:
    """Processes held by their pidfds, so that none is taken for another that got its number; a context."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.fds: dict[int, int] = {}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                self.fds[pid] = os.pidfd_open(pid)

    def __enter__(self) -> "ProcessTree":
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self.fds.values():
            os.close(fd)

    def kill(self) -> None:
        for fd in self.fds.values():
            with contextlib.suppress(ProcessLookupError, PermissionError):  # of another user: by sudo, say
                signal.pidfd_send_signal(fd, signal.SIGKILL)

    def wait(self, timeout_ms: int) -> None:
        """Until all of them have ended, and given back what they held; or the time is over."""
        poller = select.poll()
        for fd in self.fds.values():
            poller.register(fd, select.POLLIN)
        deadline = now_ms() + timeout_ms
        left = len(self.fds)
        while left and (rest_ms := deadline - now_ms()) > 0:
            for fd, _ in poller.poll(rest_ms):
                poller.unregister(fd)
                left -= 1


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
