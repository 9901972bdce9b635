"""The kernel's exceptions, as the errors a user sees."""

import json
from collections.abc import Iterable
from typing import TypeGuard

from ray import _kernel
from ray.core.system_limits import store_folder_full
from ray.errors import (
    ArenaCorruptError,
    ForkedProcessError,
    ObjectLostError,
    ObjectStoreFullError,
    RayError,
    RaySystemError,
    SessionEndedError,
    TableFullError,
    WorkerLimitError,
)


def translated(error: _kernel.KernelError, what: str, ids: Iterable[object] = ()) -> RayError:
    """`what` names the call of the API that met the error, `ids` are among the values that it was given."""
    match error:
        case _kernel.StoreFull():
            wanted, capacity, used, _ = error.args
            return ObjectStoreFullError(wanted, capacity, used)
        case _kernel.DirectoryFull():
            arena = _kernel.current()
            assert arena is not None
            return store_folder_full(arena, error)
        case _kernel.TableFull():
            table, capacity = error.args
            return TableFullError(table, capacity)
        case _kernel.NoWorkerLeft():
            return WorkerLimitError(*error.args)
        case _kernel.StaleHandle():
            return ObjectLostError(
                next((each.hex() for each in ids if _is_stale(each)), "behind an id in the call")
            )
        case _kernel.ArenaCorrupt():
            return ArenaCorruptError(str(error))
        case _kernel.ArenaClosed():
            return SessionEndedError(_why_ended())
        case _kernel.Forked():
            return ForkedProcessError(what)
        case _:
            return RaySystemError(f"{what}: the kernel reported {type(error).__name__}: {error}")


def _why_ended() -> str:
    """What the session's record says of its end; "" where it says nothing."""
    arena = _kernel.current()
    if arena is None:
        return ""
    try:
        record = json.loads(arena.session())
    except (_kernel.KernelError, ValueError):
        return ""
    return str(record.get("ended", "")) if isinstance(record, dict) else ""


def _is_stale(value: object) -> TypeGuard[_kernel.ObjectID]:
    arena = _kernel.current()
    if arena is None or not isinstance(value, _kernel.ObjectID):
        return False
    try:
        arena.is_ready(value)
    except _kernel.KernelError:
        return True
    return False
