"""Numpy arrays as pickle buffers, so that every array read back is read-only, and most are not copied.

Numpy's own reduction keeps strided arrays and some types in the pickle, where they come out
writable; and it costs three lookups of global names, which is most of the time for a small array.
"""

import io
import pickle
from typing import Any

_NAMED_KINDS = "biufcmMUS"  # kinds of dtype that their short name describes completely


def reduce_array(array: Any) -> tuple[Any, ...]:
    """The reduction of one exact `numpy.ndarray`, for a pickler of protocol 5."""
    dtype = array.dtype
    if dtype.hasobject or not dtype.itemsize:
        # The state is set after the array is known to the unpickler, as it may contain itself.
        return (*array.__reduce__(), None, None, restore_frozen)
    name = dtype.str if dtype.kind in _NAMED_KINDS else dtype
    shape = array.shape
    flags = array.flags
    if not flags.c_contiguous and flags.f_contiguous:
        return rebuild_array, (pickle.PickleBuffer(_as_bytes(array.T)), name, shape, "F")
    return rebuild_array, (pickle.PickleBuffer(_as_bytes(array)), name, shape)


def is_plain_array(value: object) -> bool:
    """Whether it is an exact `numpy.ndarray` of numbers, dates or text: nothing in it needs cloudpickle."""
    kind = type(value)
    return (
        kind.__name__ == "ndarray" and kind.__module__ == "numpy" and value.dtype.kind in _NAMED_KINDS  # type: ignore[attr-defined]
    )


class _ArrayPickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        return reduce_array(value) if is_plain_array(value) else NotImplemented


def dumps_plain_array(array: object) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """The same as `pickling.dumps_out_of_band` makes of a plain array, without what that imports."""
    file = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    _ArrayPickler(file, 5, buffer_callback=buffers.append).dump(array)
    return file.getvalue(), buffers


def _as_bytes(array: Any) -> Any:
    flat = array.ravel()  # gathers a strided array; any other is not copied
    # Types without a buffer format, dates for one, do have bytes.
    return flat if flat.dtype.kind in "biufc" else flat.view("u1")


def rebuild_array(buffer: Any, dtype: Any, shape: tuple[int, ...], order: Any = "C") -> Any:
    """A read-only array over the buffer, which it keeps alive."""
    import numpy as np

    array: Any = np.ndarray(shape, dtype, buffer, 0, None, order)
    if array.flags.writeable:
        array.flags.writeable = False
    return array


def restore_frozen(array: Any, state: Any) -> None:
    """Sets the state of an array that had to stay in the pickle, and makes it read-only like all others."""
    array.__setstate__(state)
    array.flags.writeable = False
