"""One run of a task: its arguments, the call, its results.  The same in a worker and in PYTHON_MODE."""

from typing import Any

from ray._kernel import FORMAT_ERROR, ObjectID
from ray.core.arguments import decode, place_of
from ray.core.definition import Loaded, load
from ray.core.failures import handed_on, raised
from ray.core.session_state import Current
from ray.core.store import get, get_many, sealable
from ray.core.timeouts import FOREVER_MS
from ray.errors import WrongReturnCountError
from ray.serialization.values import deserialize

DEFINITIONS_KEPT = 1024  # functions and classes that a process keeps unpickled

Sealed = tuple[Any, int, list[ObjectID] | None]


class ArgumentFailed(Exception):
    """An argument is a failure: the task does not run, and its own result is this."""

    def __init__(self, data: bytes, fmt: int, argument: ObjectID) -> None:
        super().__init__(data, fmt)
        self.data = data
        self.fmt = fmt
        self.argument = argument  # keeps alive what the failure refers to


class Definitions:
    """Functions and classes by the kernel's key, unpickled once."""

    __slots__ = ("_session", "known")

    def __init__(self, session: Current) -> None:
        self._session = session
        self.known: dict[int, Loaded] = {}

    def load(self, key: int, definition: ObjectID) -> Loaded:
        """Raises SerializationError, or what its export failed with."""
        fmt, data = get(self._session, definition, FOREVER_MS)
        if fmt >= FORMAT_ERROR:
            raise raised(self._session.arena, fmt, data)
        if len(self.known) >= DEFINITIONS_KEPT:
            del self.known[next(iter(self.known))]
        loaded = self.known[key] = load(data)
        return loaded


def arguments(
    session: Current, payload: bytes, deps: list[ObjectID] | None, name: str
) -> tuple[Any, dict[str, Any]]:
    """Positional and keyword arguments.  Raises ArgumentFailed, SerializationError."""
    if not deps:
        return decode(payload, [])
    values = []
    for index, (fmt, data) in enumerate(get_many(session, deps)):
        if fmt >= FORMAT_ERROR:
            argument = place_of(payload, index)
            raise ArgumentFailed(*handed_on(session.arena, fmt, data, name, argument), deps[index])
        values.append(deserialize(fmt, data, f"argument {place_of(payload, index)!r} of {name}"))
    return decode(payload, values)


def results(session: Current, value: Any, num_returns: int, name: str, subject: str) -> list[Sealed]:
    """What the call of `name` returned, as the kernel seals it; `subject` names it in errors.

    Raises WrongReturnCountError, SerializationError, ObjectStoreFullError."""
    if num_returns == 1:
        return [sealable(session, value, subject)]
    if num_returns == 0:
        return []
    return [sealable(session, each, subject) for each in _split(value, num_returns, name)]


def _split(value: Any, num_returns: int, name: str) -> list[Any]:
    kind = type(value).__name__
    if isinstance(value, str | bytes | bytearray | dict | set | frozenset):  # iterable, yet surely not meant
        raise WrongReturnCountError(name, num_returns, None, kind)
    try:
        count = len(value)
        values = list(value) if count == num_returns else []
    except TypeError:
        raise WrongReturnCountError(name, num_returns, None, kind) from None
    if len(values) != num_returns:
        raise WrongReturnCountError(name, num_returns, count, kind)
    return values
