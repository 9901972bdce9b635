"""Values into the object store and out of it.  A full store is waited for, not at once an error."""

import gc
import os
import time
from collections.abc import Callable
from pickle import dumps
from typing import Any, TypeVar

from ray._kernel import (
    COPY_BYTES,
    FORMAT_ERROR,
    Block,
    DirectoryFull,
    ObjectID,
    SpillFailed,
    StoreFull,
    TableFull,
    View,
)
from ray.core.failures import raised
from ray.core.session_state import WORKER_MODE, Current
from ray.core.timeouts import FOREVER_MS
from ray.errors import ObjectStoreFullError, RayError, SpillError, SystemLimitError
from ray.serialization.formats import PICKLE
from ray.serialization.values import ATOMS, TEXTS, Parts, deserialize, serialize

FIRST_PAUSE_MS = 1
LONGEST_PAUSE_MS = 50

# What `with_room` raises when no room came.
NO_ROOM = (ObjectStoreFullError, SpillError, SystemLimitError)
_NONE_YET = (StoreFull, SpillFailed, DirectoryFull)

# The kernel's tables whose entries go with the tasks that hold them.
_TABLES_OF_TASKS = frozenset({"tasks", "links between tasks and objects"})

Stored = tuple[int, bytes | View]
T = TypeVar("T")


def spill_folder() -> str:
    """Where the spill file lies.  As `tempfile` has it, whose import takes ten milliseconds."""
    return os.environ.get("TMPDIR") or "/tmp"


def put(session: Current, value: object, subject: str = "the value") -> ObjectID:
    """Stores a value by itself.  Waits for room up to `store_full_wait_ms`.

    Raises SerializationError, ObjectStoreFullError."""
    data, fmt, nested = sealable(session, value, subject)
    return with_room(session, lambda: session.arena.put(data, fmt, nested))


def sealable(
    session: Current, value: object, subject: str = "the value"
) -> tuple[bytes | Block, int, list[ObjectID] | None]:
    """A value as the kernel seals it; large buffers are copied into the store here, once."""
    kind = type(value)
    if kind in ATOMS or (kind in TEXTS and len(value) <= COPY_BYTES):  # type: ignore[arg-type]
        pickled = dumps(value, 5)  # as `serialize` does, without that call
        if len(pickled) <= COPY_BYTES:
            return pickled, PICKLE, None
    data, fmt, nested = serialize(value, subject)
    if type(data) is bytes and len(data) <= COPY_BYTES:
        return data, fmt, nested
    if type(data) is Parts:
        return _block_from(session, data), fmt, nested
    return block_of(session, data), fmt, nested  # type: ignore[arg-type]


def block_of(session: Current, data: bytes) -> bytes | Block:
    """The bytes, in the store already if they are too many for one transaction."""
    if len(data) <= COPY_BYTES:
        return data
    block = with_room(session, lambda: session.arena.allocate(len(data)))
    block.write(0, data)
    return block


def _block_from(session: Current, parts: Parts) -> Block:
    block = with_room(session, lambda: session.arena.allocate(parts.nbytes))
    parts.write_into(block)
    return block


def with_room(session: Current, attempt: Callable[[], T]) -> T:
    """Does what needs room in the store, again and again until there is some.

    Values that nobody uses are spilled meanwhile.  Raises one of NO_ROOM after `store_full_wait_ms`, at
    once for what is larger than the store."""
    try:
        return attempt()
    except _NONE_YET:
        pass
    gc.collect()  # ids in reference cycles hold room as well
    limit_ms = session.config.store_full_wait_ms
    deadline = time.monotonic() + limit_ms / 1000
    # The pause is a wait of the kernel's, for an object that never comes: signals interrupt it, the
    # session's end ends it, and a task that pauses lends its CPUs to those who may make room.
    never = session.arena.reserve()
    pause_ms = FIRST_PAUSE_MS
    while True:
        refusal: RayError
        spilled = 0
        try:
            return attempt()
        except StoreFull as error:
            wanted, capacity, used, nothing_may_go = error.args
            refusal = ObjectStoreFullError(wanted, capacity, used, limit_ms)
            if wanted > capacity:
                raise ObjectStoreFullError(wanted, capacity, used, 0) from None
            try:
                spilled = 0 if nothing_may_go else session.arena.spill(wanted)
            except SpillFailed as failure:
                refusal = _spill_error(failure)
        except SpillFailed as failure:
            refusal = _spill_error(failure)
        except DirectoryFull as failure:
            refusal = _folder_full(session, failure)
        left_ms = round((deadline - time.monotonic()) * 1000)
        if left_ms <= 0:
            raise refusal
        if spilled:  # there is some room: no pause, but what needs more than the whole store ends here too
            continue
        session.arena.wait([never], 1, min(pause_ms, left_ms))
        pause_ms = min(2 * pause_ms, LONGEST_PAUSE_MS)


def _spill_error(failure: SpillFailed) -> SpillError:
    return SpillError(spill_folder(), os.strerror(failure.args[0]))


def _folder_full(session: Current, failure: DirectoryFull) -> RayError:
    from ray.core.system_limits import store_folder_full

    return store_folder_full(session.arena, failure)


def get(session: Current, object_id: ObjectID, timeout_ms: int) -> Stored:
    """What the kernel has of one object.  A value that was spilled waits for room to come back to.

    Raises the kernel's errors, ObjectStoreFullError, SpillError."""
    try:
        return session.arena.get(object_id, timeout_ms)
    except _NONE_YET:
        return with_room(session, lambda: session.arena.get(object_id))


def get_many(session: Current, object_ids: list[ObjectID], timeout_ms: int = FOREVER_MS) -> list[Stored]:
    """The same of a list, up to and including the first failure in its order."""
    try:
        return session.arena.get_many(object_ids, timeout_ms)
    except _NONE_YET:
        return with_room(session, lambda: session.arena.get_many(object_ids))


def with_entry(session: Current, attempt: Callable[[], T]) -> T:
    """Does what makes tasks, once more whenever the node's tables had no free entry for them.

    A driver waits: entries are freed as tasks end and ids are dropped.  Inside a task that may never
    happen, since the others may wait for this one: TableFull is raised at once."""
    while True:
        try:
            return attempt()
        except TableFull as error:
            table, _ = error.args
            if session.mode == WORKER_MODE or table not in _TABLES_OF_TASKS:
                raise
        gc.collect()
        session.arena.wait_room(LONGEST_PAUSE_MS)


def value_of(session: Current, stored: Stored, subject: str = "the value") -> Any:
    """The value behind what the kernel got.  Raises the failure, if that is what it is."""
    fmt, data = stored
    if fmt >= FORMAT_ERROR:
        raise raised(session.arena, fmt, data)
    return deserialize(fmt, data, subject)


def values_of(session: Current, found: list[Stored]) -> list[Any]:
    """The values behind these.  Raises the first failure among them."""
    return [
        deserialize(fmt, data) if fmt < FORMAT_ERROR else value_of(session, (fmt, data))
        for fmt, data in found
    ]
