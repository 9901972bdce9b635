"""Prints each error of this driver's job, once, in the background."""

import contextlib
import sys

from ray._kernel import Arena, KernelError
from ray.core.failures import system_name
from ray.core.journal_follower import Entry, JournalFollower
from ray.observe.error_list import Reported, reported
from ray.serialization.failures import failure_text

_HINT = "ray.error_info() lists all errors of this job.\n"


class ErrorPrinter(JournalFollower):
    def __init__(self, arena: Arena) -> None:
        super().__init__(arena, "ray-error-printer")
        self._hinted = False

    def stop(self) -> None:
        """Prints what is there, and no more."""
        super().stop()
        with contextlib.suppress(KernelError):
            while self._read(0):
                pass

    def take(self, entries: list[Entry]) -> None:
        for entry in entries:
            error = reported(entry, self._job)
            if error is not None:
                self._print(error)

    def _print(self, error: Reported) -> None:
        name = system_name(self._arena, error.format, error.data)
        text = failure_text(error.format, error.data, name)
        hint = "" if self._hinted else _HINT
        self._hinted = True
        # One write for each error, so that two never mix; and a closed stderr is not the program's end.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            sys.stderr.write(f"\nray: {text.rstrip()}\n{hint}")
            sys.stderr.flush()
