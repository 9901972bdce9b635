"""Modules of a driver's script, in workers that don't find its folder: asked for when first imported.

What is in the folder takes precedence over what is installed, as it does for the driver. So a finder of its
own stands before all others; it knows by name what the script has, and passes over everything else.
"""

import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from ray._kernel import Arena
from ray.core import code_notes

ASK_AGAIN_MS = 2_000  # who was asked may have been killed
WAIT_S = 60.0
LOOK_MS = 500


class ScriptCode:
    """The code of one job's script that is not where the driver has it."""

    def __init__(self, arena: Arena, job: int, described: dict[str, Any], path: list[str]) -> None:
        """`path` is the driver's `sys.path`, from which its folder is taken out: what has the same name here
        is another."""
        self.arena = arena
        self.job = job
        self.folder: str = described["folder"]
        self.names = frozenset(described["names"])
        self.left_out: list[str] = []
        self.path = path
        self.at = path.index(self.folder) if self.folder in path else 0
        path[:] = [folder for folder in path if folder != self.folder]
        self.place = ""

    def find(self) -> str:
        """Where it is now. Waits until it has come. Raises ImportError."""
        if not self.place:
            self.place = self._wait()
            self.path.insert(min(self.at, len(self.path)), self.place)
            if self.place not in sys.path:
                sys.path.insert(min(self.at, len(sys.path)), self.place)
        return self.place

    def _wait(self) -> str:
        journal_place = self.arena.stats()["journal_last"]
        deadline = time.monotonic() + WAIT_S
        ask_at = 0.0
        while time.monotonic() < deadline:
            if time.monotonic() >= ask_at:
                ask_at = time.monotonic() + ASK_AGAIN_MS / 1000
                code_notes.write(self.arena, self.job, code_notes.WANTED)
            journal_place, entries = self.arena.journal_read(journal_place, LOOK_MS)
            for entry in entries:
                note = code_notes.read(entry) if entry[2] == self.job else {}
                if note.get("event") == code_notes.PLACED:
                    self.left_out = note["left_out"]
                    return str(note["folder"])
                if note.get("event") == code_notes.REFUSED:
                    raise ImportError(
                        f"The modules of the script in {self.folder} can't be had here: {note['reason']}"
                    )
        raise ImportError(
            f"The modules of the script in {self.folder} did not come from the driver within {WAIT_S:g} s."
        )


class ScriptFinder:
    """One for each worker; it is there from the first job that needs it."""

    def __init__(self) -> None:
        self.codes: list[ScriptCode] = []  # of the job that runs, or of those whose actor this is

    def show(self, codes: list[ScriptCode]) -> None:
        self.codes = codes
        if codes and self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None:
            return None
        for code in self.codes:
            if fullname in code.names:
                found = PathFinder.find_spec(fullname, [code.find()])
                if found is not None:
                    return found
        return None


def code_elsewhere(
    arena: Arena, job: int, described: dict[str, Any] | None, path: list[str]
) -> ScriptCode | None:
    """None: the script has no modules, or this process sees them where the driver does."""
    if described is None:
        return None
    from ray.core.script_code import place_of  # most scripts are one file

    if place_of(described["folder"]) == described["place"]:
        return None
    return ScriptCode(arena, job, described, path)
