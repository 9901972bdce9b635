"""What a node manager does, counted in a file that others may read meanwhile.

Imported within node managers as well, so it knows the standard library only.
"""

import mmap
import os
import struct
from pathlib import Path

VARIABLE = "RAYCORE_SCALE_COUNTERS"  # names the folder of these files
KINDS = 128  # of messages, by their tags
FIELDS = ("frames", "frame_bytes", "placements", "placement_ns")
WORD = struct.Struct("q")
SIZE = WORD.size * (2 * KINDS + len(FIELDS))


class Counters:
    """One process's own; only that process writes it."""

    def __init__(self, folder: str) -> None:
        path = os.path.join(folder, str(os.getpid()))
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(fd, SIZE)
            self._map = mmap.mmap(fd, SIZE)
        finally:
            os.close(fd)

    def sent(self, kind: int, size: int) -> None:
        self._add(2 * kind, 1)
        self._add(2 * kind + 1, size)

    def add(self, field: str, amount: int = 1) -> None:
        self._add(2 * KINDS + FIELDS.index(field), amount)

    def _add(self, place: int, amount: int) -> None:
        offset = place * WORD.size
        WORD.pack_into(self._map, offset, WORD.unpack_from(self._map, offset)[0] + amount)


def read(path: Path) -> dict[str, int]:
    """Messages sent, in all and of each kind (`sent.50`), and the fields."""
    words = [word for (word,) in WORD.iter_unpack(path.read_bytes())]
    found = dict(zip(FIELDS, words[2 * KINDS :], strict=True))
    for kind in range(KINDS):
        if words[2 * kind]:
            found[f"sent.{kind}"], found[f"bytes.{kind}"] = words[2 * kind : 2 * kind + 2]
    found["messages"] = sum(words[: 2 * KINDS : 2])
    return found
