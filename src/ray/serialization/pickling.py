"""The pickler for everything that is not a plain builtin.

It is cloudpickle's, for the sake of lambdas, closures and classes of `__main__`, which a worker
cannot import; with arrays taken out of band, always.  Importing this module costs tens of
milliseconds, so others do so at the first value that needs it.
"""

import io
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle

from ray.serialization.arrays import rebuild_array, reduce_array

PROTOCOL = 5


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no type hints
    """Pickles one value into a file, each buffer given to `buffer_callback` instead."""

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if kind.__name__ == "ndarray" and kind.__module__ == "numpy":
            return reduce_array(value)
        if value is rebuild_array:
            return NotImplemented  # a plain global name; the search that follows would find the same
        return super().reducer_override(value)


def dumps(value: object, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None) -> bytes:
    """The pickle of any value; without a callback, buffers are part of it."""
    file = io.BytesIO()
    Pickler(file, PROTOCOL, buffer_callback=buffer_callback).dump(value)
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
