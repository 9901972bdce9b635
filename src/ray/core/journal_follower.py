"""A thread of a driver that takes what the session's journal has new."""

import contextlib
import threading
import time

from ray._kernel import Arena, KernelError
from ray.core.system_limits import start_thread

Entry = tuple[int, int, int, int, bytes]  # as `Arena.journal_read` gives them

LOOK_MS = 500  # longest sleep between two looks
STOP_S = 1.0
NUDGE_S = 0.02  # a nudge just before the thread sleeps is lost; the next one is not


class JournalFollower:
    """Follows the journal from the moment it is made. To be derived from."""

    def __init__(self, arena: Arena, name: str) -> None:
        self._arena = arena
        self._job = arena.job
        self._place = arena.stats()["journal_last"]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=name, daemon=True)

    def start(self) -> None:
        """Raises SystemLimitError when there may be no more threads."""
        start_thread(self._thread)

    def stop(self) -> None:
        """Returns when the thread has ended, or does not within a second."""
        self._stopping.set()
        deadline = time.monotonic() + STOP_S
        while self._thread.is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(KernelError):
                self._arena.nudge()
            self._thread.join(NUDGE_S)

    def take(self, entries: list[Entry]) -> None:
        """What is new, oldest first. Raises KernelError when the session has ended."""
        raise NotImplementedError

    def _follow(self) -> None:
        with contextlib.suppress(KernelError):  # the session has ended
            while not self._stopping.is_set():
                self._read(LOOK_MS)

    def _read(self, timeout_ms: int) -> bool:
        self._place, entries = self._arena.journal_read(self._place, timeout_ms)
        self.take(entries)
        return bool(entries)
