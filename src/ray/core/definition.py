"""What `@ray.remote` stands over: a function or class, put into each session that uses it, once.

In the store it is what `serialization.functions` makes of it, and four bytes more: the number of calls
after which a worker ends (0: no limit).
"""

import struct
import threading
from typing import Any, NamedTuple, Self

from ray._kernel import FORMAT_ERROR, JOURNAL_FUNCTION, ObjectID, View, collect
from ray.core import session_state
from ray.core.failures import failed, raised
from ray.core.names import display_name, journal_entry, name_of
from ray.core.session_state import Current
from ray.core.store import block_of, get, with_room
from ray.core.timeouts import FOREVER_MS
from ray.errors import RayConnectionError
from ray.serialization import formats
from ray.serialization.functions import pickle_function, unpickle_function

FUNCTION = "function"
ACTOR_CLASS = "actor class"

_MAX_CALLS = struct.Struct("<I")

# One lock for all, and reentrant: functions that call each other are exported inside one another.
_exporting = threading.RLock()


class Loaded(NamedTuple):
    """A definition as a worker reads it back."""

    name: str
    max_calls: int
    target: Any
    subject: str  # its results, in errors


class _Export(NamedTuple):
    session: Current
    id: ObjectID


class Definition:
    """A function or class, and its object in the session that used it last.

    `target` is None in a process that got it from another: there it is known by its id alone."""

    def __init__(self, kind: str, target: Any, name: str = "", max_calls: int = 0) -> None:
        self.kind = kind
        self.target = target
        self.name = name or display_name(
            getattr(target, "__qualname__", None) or getattr(target, "__name__", None) or repr(target)
        )
        self.max_calls = max_calls
        self.methods: tuple[str, ...] = ()  # of an actor class, in the order of their numbers
        self._export: _Export | None = None

    def exported(self, session: Current) -> ObjectID:
        """Its id in this session, put there if need be.

        Raises SerializationError if it can't be pickled, RayConnectionError if it came from a session
        that has ended."""
        export = self._export
        if export is None or export.session is not session:
            with _exporting:
                export = self._export
                if export is None or export.session is not session:
                    export = self._put_into(session)
        return export.id

    def _put_into(self, session: Current) -> _Export:
        if self.target is None:
            raise RayConnectionError(
                f"{self.name} was handed to this process in a session that has ended; "
                "it is known by its id in that session only. Get it again in the new one, or define it here."
            )
        arena = session.arena
        # The id is known before the code is pickled: the code may name itself, in a recursion.
        export = _Export(session, arena.reserve())
        try:
            self._remember(export)
            code, captured = self._pickled()
            # A definition that kept itself alive would never be freed.
            captured = [oid for oid in captured if oid != export.id]
            record = block_of(session, code)
            with_room(session, lambda: arena.seal(export.id, record, formats.RAW, captured or None))
            module = str(getattr(self.target, "__module__", None) or "")
            entry = journal_entry(export.id, self.name, self.kind, module, self.methods)
            with_room(session, lambda: arena.journal(JOURNAL_FUNCTION, entry))
        except BaseException as error:
            self._export = None
            if not arena.is_shut:
                # Someone may hold the id already (a function that calls this one): it must not wait for ever.
                data, fmt, ids = failed(error, self.name)
                arena.seal(export.id, data, fmt, ids)
            raise
        return export

    def _pickled(self) -> tuple[bytes, list[ObjectID]]:
        code, captured = collect(pickle_function, self.target)
        return code + _MAX_CALLS.pack(self.max_calls), captured or []

    def code(self, session: Current) -> Any:
        """The function or class itself, unpickled here if it came from another process.

        Raises SerializationError, or what its export failed with."""
        if self.target is not None:
            return self.target
        fmt, data = get(session, self.exported(session), FOREVER_MS)
        if fmt >= FORMAT_ERROR:
            raise raised(session.arena, fmt, data)
        return unpickle_function(data)

    def reference(self, session: Current) -> tuple[str, ObjectID, str, int]:
        """What a pickled handle says of it; `referred` is the other end."""
        return self.kind, self.exported(session), self.name, self.max_calls

    @classmethod
    def referred(cls, kind: str, oid: ObjectID, name: str, max_calls: int) -> Self:
        definition = cls(kind, None, name, max_calls)
        definition._remember(_Export(session_state.require(f"Unpickling {name}"), oid))
        return definition

    def _remember(self, export: _Export) -> None:
        self._export = export
        export.session.remembering.add(self)

    def forget(self) -> None:
        self._export = None


def load(data: bytes | View) -> Loaded:
    """The definition behind a stored one.  Raises SerializationError if its code can't be unpickled."""
    (max_calls,) = _MAX_CALLS.unpack(memoryview(data)[-_MAX_CALLS.size :])
    name = name_of(data)
    return Loaded(name, max_calls, unpickle_function(data), f"the result of {name}")
