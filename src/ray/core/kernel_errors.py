"""The kernel's exceptions, as the errors a user sees."""

from ray import _kernel
from ray.errors import (
    ArenaCorruptError,
    ForkedProcessError,
    ObjectLostError,
    ObjectStoreFullError,
    RayError,
    RaySystemError,
    SessionEndedError,
    TableFullError,
)


def translated(error: _kernel.KernelError, what: str) -> RayError:
    """`what` names the call of the API that met the error."""
    match error:
        case _kernel.StoreFull():
            wanted, capacity, used = error.args
            return ObjectStoreFullError(wanted, capacity, used)
        case _kernel.TableFull():
            table, capacity = error.args
            return TableFullError(table, capacity)
        case _kernel.StaleHandle():
            return ObjectLostError(str(error.args[0]) if error.args else "")
        case _kernel.ArenaCorrupt():
            return ArenaCorruptError(str(error))
        case _kernel.ArenaClosed():
            return SessionEndedError()
        case _kernel.Forked():
            return ForkedProcessError(what)
        case _:
            return RaySystemError(f"{what}: the kernel reported {type(error).__name__}: {error}")
