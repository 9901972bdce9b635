"""Values to bytes and back.

The layout of format BUFFERS, all numbers little-endian, offsets from the start of the data, which
is 64-byte aligned in the store:

    u32 number of buffers, u32 zero, u64 length of the pickle
    u64 length of each buffer
    the pickle
    each buffer, starting at the next multiple of 64

Buffers are what pickle protocol 5 takes out of band: array contents, Arrow buffers, columns of data
frames.  On the way back they are read-only slices of the stored data, which stays in place for as
long as one of them lives.
"""

import pickle
import struct
from typing import TYPE_CHECKING, Any

from ray._kernel import COPY_BYTES, KernelError, collect
from ray.errors import SerializationError
from ray.serialization.formats import BUFFERS, PICKLE, RAW

if TYPE_CHECKING:
    from ray._kernel import Block, ObjectID, View

ALIGNMENT_BYTES = 64
RAW_BYTES = 4096  # a `bytes` value from this size on is stored as it is, which saves a copy of it
_FEW = 8  # a tuple or list up to this length is looked through for the fast way

PIECE_BYTES = 32 << 20  # copied in ten milliseconds, also into memory never touched before
_HEADER = struct.Struct("<IIQ")
ATOMS = frozenset((type(None), bool, int, float))
TEXTS = frozenset((str, bytes))
_SCALARS = ATOMS | TEXTS
_dumps = pickle.dumps
_loads = pickle.loads


class Parts:
    """A large value in pieces that lie where the user has them, until they are written to the store.

    `nbytes` is the size of the block that `write_into` fills.  Holds the value's buffers alive.
    """

    __slots__ = ("_buffers", "_head", "nbytes")

    def __init__(self, pickled: bytes, buffers: list[memoryview]) -> None:
        lengths = [buffer.nbytes for buffer in buffers]
        count = len(buffers)
        header = _HEADER.pack(count, 0, len(pickled))
        self._head = b"".join((header, struct.pack(f"<{count}Q", *lengths), pickled))
        end = len(self._head)
        self._buffers: list[tuple[int, memoryview]] = []
        for buffer, length in zip(buffers, lengths, strict=True):
            start = _aligned(end)
            self._buffers.append((start, buffer))
            end = start + length
        self.nbytes = end

    def write_into(self, block: "Block") -> None:
        """Writes header, pickle and buffers, each buffer copied once."""
        block.write(0, self._head)
        for start, buffer in self._buffers:
            # In pieces: between two of them a Ctrl-C is heard.
            for first in range(0, buffer.nbytes, PIECE_BYTES):
                block.write(start + first, buffer[first : first + PIECE_BYTES])

    def to_bytes(self) -> bytes:
        """The same in one run of bytes, for small values."""
        pieces: list[bytes | memoryview] = [self._head]
        end = len(self._head)
        for start, buffer in self._buffers:
            pieces += (bytes(start - end), buffer)
            end = start + buffer.nbytes
        return b"".join(pieces)


def serialize(
    value: object, subject: str = "the value"
) -> "tuple[bytes | Parts, int, list[ObjectID] | None]":
    """Data, format and the ids that the value contains.

    The data is `Parts` where the value has large buffers, to be written into a block of the store;
    else bytes.  `subject` names the value in errors.  Raises SerializationError.
    """
    kind = type(value)
    if kind in _SCALARS:
        if kind is bytes and len(value) >= RAW_BYTES:  # type: ignore[arg-type]
            return value, RAW, None  # type: ignore[return-value]
        return _dumps(value, 5), PICKLE, None
    if (kind is tuple or kind is list) and len(value) <= _FEW:  # type: ignore[arg-type]
        for item in value:  # type: ignore[attr-defined]
            if type(item) not in _SCALARS:
                break
        else:
            return _dumps(value, 5), PICKLE, None
    return _serialize_any(value, subject)


def _serialize_any(value: object, subject: str) -> "tuple[bytes | Parts, int, list[ObjectID] | None]":
    try:
        (pickled, buffers), nested = collect(_dumps_any, value)
    except BaseException as error:
        if not issubclass(type(error), (Exception, SystemExit)) or issubclass(type(error), KernelError):
            raise
        raise _cannot_pickle(value, subject, error) from error
    if not buffers:
        return pickled, PICKLE, nested
    parts = Parts(pickled, [buffer.raw() for buffer in buffers])
    if parts.nbytes <= COPY_BYTES:
        return parts.to_bytes(), BUFFERS, nested
    return parts, BUFFERS, nested


def _first_dumps_any(value: object) -> tuple[bytes, list[pickle.PickleBuffer] | None]:
    # cloudpickle takes tens of milliseconds to import, and an array does without; an import statement in
    # each call takes half a microsecond.
    from ray.serialization.arrays import dumps_plain_array, is_plain_array

    if is_plain_array(value):
        return dumps_plain_array(value)
    global _dumps_any
    from ray.serialization.pickling import dumps_out_of_band

    _dumps_any = dumps_out_of_band
    return dumps_out_of_band(value)


_dumps_any = _first_dumps_any


def _cannot_pickle(value: object, subject: str, error: BaseException) -> SerializationError:
    from ray.serialization.culprit import find_culprit
    from ray.serialization.tracebacks import reason_of

    path, kind = find_culprit(value)
    if RecursionError in (type(error), type(BaseException.__dict__["__cause__"].__get__(error))):
        return SerializationError("pickle", subject, kind, path, "it is nested too deeply, or without end")
    return SerializationError("pickle", subject, kind, path, reason_of(error))


def deserialize(fmt: int, data: "bytes | View | memoryview", subject: str = "the value") -> Any:
    """The value; its arrays are read-only and lie in `data`, which they keep alive.

    Failures are not values: see `failures.decode_failure`.  Raises SerializationError.
    """
    try:
        if fmt == PICKLE:
            return _loads(data)
        if fmt == BUFFERS:
            return _load_buffers(data)
        if fmt == RAW:
            return bytes(data)
    except (KernelError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        from ray.serialization.tracebacks import reason_of

        raise SerializationError("unpickle", subject, reason=reason_of(error)) from error
    raise SerializationError("unpickle", subject, reason=f"format {fmt} is not a value's")


def _load_buffers(data: "bytes | View | memoryview") -> Any:
    view = _aligned_copy(data) if type(data) is bytes else memoryview(data)
    count, _, pickled_bytes = _HEADER.unpack_from(view)
    lengths = struct.unpack_from(f"<{count}Q", view, _HEADER.size)
    begin = _HEADER.size + 8 * count
    end = begin + pickled_bytes
    pickled = view[begin:end]
    buffers = []
    for length in lengths:
        start = _aligned(end)
        end = start + length
        buffers.append(view[start:end])
    if end > view.nbytes:
        raise ValueError(f"the data ends at byte {view.nbytes}, its header says {end}")
    return _loads(pickled, buffers=buffers)


def _aligned(offset: int) -> int:
    return (offset + ALIGNMENT_BYTES - 1) & -ALIGNMENT_BYTES


def _aligned_copy(data: bytes) -> memoryview:
    # Small data comes as a bytes object of any address; its arrays shall be aligned like all others.
    import ctypes

    room = bytearray(len(data) + ALIGNMENT_BYTES)
    shift = -ctypes.addressof(ctypes.c_char.from_buffer(room)) % ALIGNMENT_BYTES
    room[shift : shift + len(data)] = data
    return memoryview(room).toreadonly()[shift : shift + len(data)]
