"""Gives the script's modules to nodes that ask for them, in the background of a driver that has joined.

Its own process reads them: they may be closed to the user that the cluster runs as. Nothing is read before
somebody asks.
"""

from typing import Any

from ray._kernel import Arena, KernelError, ObjectID
from ray.core import code_notes, script_code
from ray.core.journal_follower import Entry, JournalFollower
from ray.serialization.formats import RAW
from ray.session.say import say


class CodeGiver(JournalFollower):
    def __init__(self, arena: Arena, folder: str, is_silent: bool) -> None:
        super().__init__(arena, "ray-code-giver")
        self._folder = folder
        self._is_silent = is_silent
        self._given: dict[str, Any] = {}  # what was said of it
        self._packed: ObjectID | None = None  # keeps it there

    def stop(self) -> None:
        super().stop()
        self._packed = None

    def take(self, entries: list[Entry]) -> None:
        own = (code_notes.read(entry) for entry in entries if entry[2] == self._job)
        if any(note.get("event") == code_notes.WANTED for note in own):
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
