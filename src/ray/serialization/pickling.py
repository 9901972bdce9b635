"""The pickler for everything that is not a plain builtin.

It is cloudpickle's, for the sake of lambdas, closures and classes of `__main__`, which a worker
cannot import; with arrays taken out of band, always.  Importing this module costs tens of
milliseconds, so others do so at the first value that needs it.
"""

import io
import pickle
from types import FunctionType
from typing import Any

import cloudpickle

from ray._kernel import ObjectID
from ray.serialization.arrays import rebuild_array, reduce_array
from ray.serialization.classes import reduce_class

PROTOCOL = 5


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no type hints
    """Pickles values into a file, each buffer given to `buffer_callback` instead."""

    saw_function = False

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if kind.__name__ == "ndarray" and kind.__module__ == "numpy":
            return reduce_array(value)
        if value is rebuild_array or value is ObjectID:
            return NotImplemented  # a plain global name; the search that follows would find the same
        if kind is FunctionType:
            self.saw_function = True
            return super().reducer_override(value)
        if issubclass(kind, type):
            return reduce_class(value, super().reducer_override(value))
        return NotImplemented


class _ReusablePickler(Pickler):
    """A pickler with a file of its own; to make one takes longer than to pickle a small value."""

    def __init__(self) -> None:
        self.file = io.BytesIO()
        self.buffers: list[pickle.PickleBuffer] = []
        super().__init__(self.file, PROTOCOL, buffer_callback=self.buffers.append)


_REUSE_BYTES = 4096  # a memo grown by a larger value is slow to clear
_spare: list[_ReusablePickler] = []  # each is used by one call at a time, of whatever thread


def dumps_out_of_band(value: object) -> tuple[bytes, list[pickle.PickleBuffer] | None]:
    """The pickle of any value, and the buffers that belong to it, in order; None for none."""
    try:
        pickler = _spare.pop()
    except IndexError:
        pickler = _ReusablePickler()
    pickler.dump(value)  # a pickler that fails is thrown away
    file = pickler.file
    pickled = file.getvalue()
    buffers = None
    if pickler.buffers:
        buffers = pickler.buffers.copy()
        pickler.buffers.clear()
    # What cloudpickle knows of functions' globals is good for one pickle only.
    if len(pickled) <= _REUSE_BYTES and not pickler.saw_function:
        file.seek(0)
        file.truncate()
        pickler.clear_memo()
        _spare.append(pickler)
    return pickled, buffers


def dumps(value: object) -> bytes:
    """The pickle of any value, buffers included."""
    file = io.BytesIO()
    Pickler(file, PROTOCOL).dump(value)
    return file.getvalue()


class TooLargeError(Exception):
    """A bounded pickle grew over its bound."""


class _BoundedFile:
    """Takes what a pickler writes, and stops it at a number of bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._room_bytes = limit_bytes
        self._parts: list[bytes] = []

    def write(self, part: Any) -> int:
        size = memoryview(part).nbytes
        self._room_bytes -= size
        if self._room_bytes < 0:
            raise TooLargeError
        self._parts.append(bytes(part))
        return size

    def getvalue(self) -> bytes:
        return b"".join(self._parts)


def dumps_bounded(value: object, limit_bytes: int) -> bytes:
    """The pickle of any value, buffers included.

    Raises TooLargeError as soon as it is known to be larger than the limit, before it is built.
    """
    file = _BoundedFile(limit_bytes)
    Pickler(file, PROTOCOL).dump(value)
    return file.getvalue()
