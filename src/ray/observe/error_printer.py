"""Prints each error of this driver's job, once, in the background."""

import contextlib
import sys
import threading
import time

from ray._kernel import Arena, KernelError
from ray.core.failures import system_name
from ray.core.system_limits import start_thread
from ray.observe.error_list import Reported, reported
from ray.serialization.failures import failure_text

LOOK_MS = 500  # longest sleep between two looks
STOP_S = 1.0
NUDGE_S = 0.02  # a nudge just before the thread sleeps is lost; the next one is not
_HINT = "ray.error_info() lists all errors of this job.\n"


class ErrorPrinter:
    """Follows the journal from the moment it is made."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._job = arena.job
        self._place = arena.stats()["journal_last"]
        self._hinted = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="ray-error-printer", daemon=True)

    def start(self) -> None:
        """Raises SystemLimitError when there may be no more threads."""
        start_thread(self._thread)

    def stop(self) -> None:
        """Prints what is there, and no more."""
        self._stopping.set()
        deadline = time.monotonic() + STOP_S
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._arena.nudge()
            self._thread.join(NUDGE_S)
        with contextlib.suppress(KernelError):
            while self._print_new(0):
                pass

    def _follow(self) -> None:
        with contextlib.suppress(KernelError):  # the session has ended
            while not self._stopping.is_set():
                self._print_new(LOOK_MS)

    def _print_new(self, timeout_ms: int) -> bool:
        self._place, entries = self._arena.journal_read(self._place, timeout_ms)
        for entry in entries:
            error = reported(entry, self._job)
            if error is not None:
                self._print(error)
        return bool(entries)

    def _print(self, error: Reported) -> None:
        name = system_name(self._arena, error.format, error.data)
        text = failure_text(error.format, error.data, name)
        hint = "" if self._hinted else _HINT
        self._hinted = True
        # One write for each error, so that two never mix; and a closed stderr is not the program's end.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            sys.stderr.write(f"\nray: {text.rstrip()}\n{hint}")
            sys.stderr.flush()
