"""Names of functions and classes, as the user knows them."""

from ray._kernel import Arena, KernelError, ObjectID, View
from ray.serialization.formats import RAW
from ray.serialization.functions import describe


def display_name(qualified: str) -> str:
    """Without the functions that it was defined in."""
    return qualified.rpartition("<locals>.")[2] or qualified


def name_of(data: bytes | View) -> str:
    """The name of a stored function or class; runs none of the user's code."""
    return display_name(describe(data).name)


def name_behind(arena: Arena, object_id: bytes) -> str:
    """The same, by the 20 bytes of its id; empty if it is not there any more."""
    if not any(object_id):
        return ""
    try:
        fmt, data = arena.get(ObjectID(object_id), 0)
    except KernelError:
        return ""
    return name_of(data) if fmt == RAW else ""
