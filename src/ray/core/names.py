"""Names of functions and classes, as the user knows them."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ray._kernel import JOURNAL_FUNCTION, Arena, KernelError, ObjectID, View
from ray.serialization.formats import RAW
from ray.serialization.functions import describe


def display_name(qualified: str) -> str:
    """Without the functions that it was defined in."""
    return qualified.rpartition("<locals>.")[2] or qualified


def name_of(data: bytes | View) -> str:
    """The name of a stored function or class; runs none of the user's code."""
    return display_name(describe(data).name)


def name_behind(arena: Arena, object_id: bytes) -> str:
    """The same by the 20 bytes of its id, also when the object is gone; empty if nothing is known of it."""
    if not any(object_id):
        return ""
    try:
        fmt, data = arena.get(ObjectID(object_id), 0)
    except KernelError:
        wanted = object_id.hex()
        return next((entry["name"] for entry in exports(arena) if entry["id"] == wanted), "")
    return name_of(data) if fmt == RAW else ""


def journal_entry(oid: ObjectID, name: str, kind: str, module: str, methods: Sequence[str]) -> bytes:
    """What the journal says of a function or class that was put into the session."""
    entry = {"id": oid.hex(), "key": oid.key, "name": name, "kind": kind, "module": module}
    return json.dumps({**entry, "methods": methods} if methods else entry).encode()


def exports(arena: Arena) -> Iterator[dict[str, Any]]:
    """These entries, oldest first, as far as the journal reaches back."""
    place = 0
    while True:
        place, entries = arena.journal_read(place)
        if not entries:
            return
        for _, kind, _, _, data in entries:
            if kind == JOURNAL_FUNCTION:
                yield json.loads(data)
