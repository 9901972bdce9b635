"""A driver's eye on the keeper: without one nobody else may be left to say that the session has ended."""

import contextlib
import os
import select
import threading
from collections.abc import Callable

from ray.core.system_limits import start_thread


class KeeperWatch:
    """A thread that waits for a process's death, and calls once if that comes before `stop`."""

    def __init__(self, pid: int, on_death: Callable[[], None]) -> None:
        self._on_death = on_death
        with contextlib.ExitStack() as fds:
            self._stop_read, self._stop_write = os.pipe()
            fds.callback(os.close, self._stop_read)
            fds.callback(os.close, self._stop_write)
            try:
                self._pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                self._pidfd = os.open(os.devnull, os.O_RDONLY)  # always readable, as the pidfd of the dead is
            fds.callback(os.close, self._pidfd)
            self._thread = threading.Thread(target=self._run, name="ray-keeper-watch", daemon=True)
            start_thread(self._thread)
            self._fds = fds.pop_all()

    def stop(self) -> None:
        """Waits for the thread's end. Not for a process forked from the one that made it."""
        os.write(self._stop_write, b"x")
        self._thread.join()
        self._fds.close()
        del self._on_death  # refers to the session, and so to its memory, which would wait for the collector

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._stop_read, select.POLLIN)
        poller.register(self._pidfd, select.POLLIN)
        ready = {fd for fd, _ in poller.poll()}
        if self._stop_read not in ready:
            self._on_death()
