"""Gives the script's modules to nodes that ask for them, in the background of a driver that has joined.

Its own process reads them: they may be closed to the user that the cluster runs as. Nothing is read before
somebody asks.
"""

import contextlib
import threading
import time
from typing import Any

from ray._kernel import JOURNAL_NOTE, Arena, KernelError, ObjectID
from ray.core import code_notes, script_code
from ray.core.system_limits import start_thread
from ray.serialization.formats import RAW
from ray.session.say import say

LOOK_MS = 500  # longest sleep between two looks
STOP_S = 1.0
NUDGE_S = 0.02  # a nudge just before the thread sleeps is lost; the next one is not


class CodeGiver:
    """Follows the journal from the moment it is made."""

    def __init__(self, arena: Arena, folder: str, is_silent: bool) -> None:
        self._arena = arena
        self._folder = folder
        self._is_silent = is_silent
        self._job = arena.job
        self._place = arena.stats()["journal_last"]
        self._stopping = threading.Event()
        self._given: dict[str, Any] = {}  # what was said of it
        self._packed: ObjectID | None = None  # keeps it there
        self._thread = threading.Thread(target=self._follow, name="ray-code-giver", daemon=True)

    def start(self) -> None:
        """Raises SystemLimitError when there may be no more threads."""
        start_thread(self._thread)

    def stop(self) -> None:
        self._stopping.set()
        deadline = time.monotonic() + STOP_S
        while self._thread.is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(KernelError):
                self._arena.nudge()
            self._thread.join(NUDGE_S)
        self._packed = None

    def _follow(self) -> None:
        with contextlib.suppress(KernelError):  # the session has ended
            while not self._stopping.is_set():
                self._place, entries = self._arena.journal_read(self._place, LOOK_MS)
                if any(
                    entry[1] == JOURNAL_NOTE
                    and entry[2] == self._job
                    and code_notes.read(entry).get("event") == code_notes.WANTED
                    for entry in entries
                ):
                    self._give()

    def _give(self) -> None:
        if not self._given:
            packed = script_code.pack(self._folder)
            try:
                self._packed = self._arena.put(packed.data, RAW)
            except KernelError as error:
                reason = f"the driver can't put it into the object store: {error}"
                code_notes.write(self._arena, self._job, code_notes.REFUSED, reason=reason)
                return
            self._given = {
                "object": self._packed.hex(),
                "digest": packed.digest,
                "size": len(packed.data),
                "left_out": packed.left_out[: script_code.SAID_MAX],
            }
            if packed.left_out and not self._is_silent:
                say(script_code.said(self._folder, packed.left_out))
        code_notes.write(self._arena, self._job, code_notes.GIVEN, **self._given)
