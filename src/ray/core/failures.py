"""Failures as they are sealed, and as they are raised again."""

import functools

from ray._kernel import FORMAT_SYSTEM, Arena, ObjectID, View, collect
from ray.core.names import name_behind
from ray.errors import RayError
from ray.serialization.failures import decode_failure, encode_failure, forward_failure

Failed = tuple[bytes, int, list[ObjectID] | None]

# In the data of a kernel's own failure (FORMAT_SYSTEM) the id of the function follows four numbers.
_FUNCTION_ID = slice(16, 36)


def failed(error: BaseException, name: str, attempt: int = 0, node: str = "") -> Failed:
    """What stands in place of the result of `name`, which raised this: data, format, ids contained.

    `node` is where, in a cluster."""
    (data, fmt), nested = collect(functools.partial(encode_failure, error, name, node=node, attempt=attempt))
    return data, fmt, nested


def handed_on(
    arena: Arena, fmt: int, data: bytes | View, name: str, argument: str | int
) -> tuple[bytes, int]:
    """What stands in place of the result of `name`, which can't run: this argument is a failure."""
    return forward_failure(fmt, data, name, argument, origin=system_name(arena, fmt, data))


def raised(arena: Arena, fmt: int, data: bytes | View) -> RayError:
    """The error that a stored failure raises where it is got."""
    return decode_failure(fmt, data, system_name(arena, fmt, data))


def system_name(arena: Arena, fmt: int, data: bytes | View) -> str:
    """The name that the kernel's own failure is about; others carry theirs themselves."""
    return name_behind(arena, bytes(memoryview(data)[_FUNCTION_ID])) if fmt == FORMAT_SYSTEM else ""
