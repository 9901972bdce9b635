"""The exception inside a stored failure: pickled so that it surely comes back, or left out.

Tried in turn, each within the bound and each checked by unpickling it here: the exception by its own
`__reduce__`, if it has one; its type, arguments and attributes, rebuilt without its constructor; the
same without the parts that cannot be pickled; its type with a shortened text.
"""

import contextlib
import pickle
from typing import Any

from ray.serialization.dual import HEAP_TYPE, bare_instance, fields_outside_dict
from ray.serialization.pickling import dumps_bounded
from ray.serialization.tracebacks import shorten

_PARTS = 100  # of an exception that are tried one by one
_TEXT_BYTES = 1024  # of the text that stands for the arguments of the last try


def pickle_cause(error: BaseException, limit_bytes: int) -> bytes:
    """A pickle of the exception of at most that size; empty if there is no way."""
    for attempt in (_by_itself, _in_parts, _in_fitting_parts, _type_and_text):
        try:
            pickled = attempt(error, limit_bytes)
            if pickled and type(pickle.loads(pickled)) is type(error):
                return pickled
        except BaseException:  # a user's __reduce__, __setstate__, __str__ or constructor may raise anything
            continue
    return b""


def _by_itself(error: BaseException, limit_bytes: int) -> bytes:
    kind = type(error)
    if kind.__flags__ & HEAP_TYPE and kind.__reduce__ is BaseException.__reduce__:
        # The inherited way calls the constructor with `args`, which is wrong for many constructors.
        return b""
    pickled = dumps_bounded(error, limit_bytes)
    return pickled if bool(pickle.loads(pickled).args == error.args) else b""


def _in_parts(error: BaseException, limit_bytes: int) -> bytes:
    slots = {name: value for _, name, value in fields_outside_dict(error)}
    return dumps_bounded(_Rebuilt(type(error), error.args, error.__dict__, slots), limit_bytes)


def _in_fitting_parts(error: BaseException, limit_bytes: int) -> bytes:
    part_bytes = limit_bytes // 4
    if len(error.args) + len(error.__dict__) > _PARTS:
        return b""
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
    BaseException.__getattribute__(error, "__dict__").update(state)
    for name, value in slots.items():
        with contextlib.suppress(AttributeError, TypeError, ValueError):  # read-only
            BaseException.__setattr__(error, name, value)
    BaseException.__setattr__(error, "args", args)
    return error


def unpickle_cause(pickled: bytes | memoryview) -> BaseException:
    """The exception.  Raises whatever its modules and methods raise here."""
    cause: BaseException = pickle.loads(pickled)
    if not issubclass(type(cause), BaseException):
        raise TypeError(f"a {type(cause).__name__} is not an exception")
    return cause
