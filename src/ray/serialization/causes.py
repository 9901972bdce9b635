"""The exception inside a stored failure: pickled so that it surely comes back, or left out.

Tried in turn, each within the bound and each checked by unpickling it here: the exception as it
pickles itself; its type, arguments and attributes, rebuilt without its constructor, leaving out what
cannot be pickled; its type with a shortened text.
"""

import contextlib
import pickle
from typing import Any

from ray.serialization.dual import bare_instance, fields_outside_dict
from ray.serialization.pickling import dumps_bounded
from ray.serialization.tracebacks import shorten

_TEXT_BYTES = 1024  # of the text that stands for the arguments of the last try


def pickle_cause(error: BaseException, limit_bytes: int) -> bytes:
    """A pickle of the exception of at most that size; empty if there is no way."""
    for attempt in (_whole, _in_parts, _type_and_text):
        try:
            pickled = attempt(error, limit_bytes)
            if type(pickle.loads(pickled)) is type(error):
                return pickled
        except BaseException:  # a user's __reduce__, __setstate__, __str__ or constructor may raise anything
            continue
    return b""


def _whole(error: BaseException, limit_bytes: int) -> bytes:
    pickled = dumps_bounded(error, limit_bytes)
    # A constructor that makes its message from its arguments is given the message when unpickled.
    if not bool(pickle.loads(pickled).args == error.args):
        raise ValueError("the exception pickles itself wrongly")
    return pickled


def _in_parts(error: BaseException, limit_bytes: int) -> bytes:
    part_bytes = limit_bytes // 4
    args = tuple(arg if _fits(arg, part_bytes) else _stand_in(arg) for arg in error.args)
    state = {name: value for name, value in error.__dict__.items() if _fits(value, part_bytes)}
    slots = {name: value for _, name, value in fields_outside_dict(error) if _fits(value, part_bytes)}
    return dumps_bounded(_Rebuilt(type(error), args, state, slots), limit_bytes)


def _type_and_text(error: BaseException, limit_bytes: int) -> bytes:
    return dumps_bounded(_Rebuilt(type(error), (shorten(str(error), _TEXT_BYTES),), {}, {}), limit_bytes)


def _fits(value: object, limit_bytes: int) -> bool:
    try:
        pickle.loads(dumps_bounded(value, limit_bytes))
    except Exception:
        return False
    return True


def _stand_in(value: object) -> str:
    return shorten(value, _TEXT_BYTES) if isinstance(value, str) else f"<{type(value).__name__}, left out>"


class _Rebuilt:
    """Pickles as a call of `rebuild_cause`."""

    def __init__(self, *call: Any) -> None:
        self._call = call

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild_cause, self._call


def rebuild_cause(
    kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any], slots: dict[str, Any]
) -> BaseException:
    """An exception with these arguments, attributes and slots; its constructor is not run."""
    error: BaseException = bare_instance(kind, args)
    error.__dict__.update(state)
    for name, value in slots.items():
        with contextlib.suppress(AttributeError, TypeError, ValueError):  # read-only
            BaseException.__setattr__(error, name, value)
    error.args = args
    return error


def unpickle_cause(pickled: bytes | memoryview) -> BaseException:
    """The exception.  Raises whatever its modules and methods raise here."""
    cause = pickle.loads(pickled)
    if not isinstance(cause, BaseException):
        raise TypeError(f"a {type(cause).__name__} is not an exception")
    return cause
