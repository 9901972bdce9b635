"""The errors that `get` raises: each a `RayTaskError` and of the type that the user's code raised.

A type of both is made when first needed.  Users' exception types can refuse that in many ways (final
metaclasses, memory layouts that do not combine, `__init_subclass__`); then it is a plain
`RayTaskError`, whose `cause` still is the original.
"""

import functools
import itertools
import types
from collections.abc import Iterator
from typing import Any

from ray.errors import RayTaskError

HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, not part of the interpreter

_FIELD_TYPES = (types.MemberDescriptorType, types.GetSetDescriptorType)

# Raised by `get` as these, a failure would silently end the caller's loop.
_NEVER = (StopIteration, StopAsyncIteration)


def raisable(error: RayTaskError) -> RayTaskError:
    """The same error, of the cause's type as well if that can be."""
    cause = error.cause
    # SystemExit and the like must not end the caller, so only Exceptions are taken on.
    original: Any = type(cause)
    if not issubclass(original, Exception) or issubclass(original, (RayTaskError, *_NEVER)):
        return error
    assert cause is not None
    try:
        kind = _dual_type(original)
        return error if kind is None else _build(kind, error, cause)
    except (Exception, SystemExit):  # whatever a user's type does on the way
        return error


@functools.lru_cache(maxsize=256)
def _dual_type(kind: type) -> type[RayTaskError] | None:
    if issubclass(RayTaskError, kind):
        return None
    body = {
        "__module__": RayTaskError.__module__,
        "__doc__": f"A task failed with {kind.__qualname__}.",
        "__reduce_ex__": _reduce,
        "__getattr__": _attribute_of_cause,
        "__getattribute__": BaseException.__getattribute__,
        "__setattr__": BaseException.__setattr__,
    }
    name = f"RayTaskError({kind.__name__})"
    return types.new_class(name, (RayTaskError, kind), exec_body=lambda space: space.update(body))


def _reduce(error: RayTaskError, protocol: Any) -> tuple[Any, ...]:
    plain = RayTaskError.__new__(RayTaskError)
    plain.__dict__.update(error.__dict__)
    plain.args = error.args
    return raisable, (plain,)


def _attribute_of_cause(error: RayTaskError, name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(error.__dict__["cause"], name)


def _build(kind: type[RayTaskError], plain: RayTaskError, cause: BaseException) -> RayTaskError:
    error: RayTaskError = bare_instance(kind, plain.args)
    error.__dict__.clear()
    error.__dict__.update(plain.__dict__)
    for base, name, value in fields_outside_dict(cause):
        try:
            vars(base)[name].__set__(error, value)
        except (AttributeError, TypeError, ValueError):  # read-only
            continue
    error.args = plain.args
    str(error)
    return error


def bare_instance(kind: type[Any], args: tuple[Any, ...]) -> Any:
    """An exception of the type, made without running any code of the user's classes."""
    # Which of the interpreter's own types may make it depends on the order of its bases.
    natives: list[Any] = [base for base in kind.__mro__ if not base.__flags__ & HEAP_TYPE]
    for native, given in itertools.product(natives, (args, ())):
        try:
            error = native.__new__(kind, *given)
            native.__init__(error, *given)
            return error
        except (TypeError, ValueError):  # not this base, or arguments for the user's own constructor
            continue
    raise TypeError(f"no instance of {kind.__qualname__} can be made")


def fields_outside_dict(error: BaseException) -> Iterator[tuple[type, str, Any]]:
    """What is not in the instance's dictionary: the interpreter's own fields (`errno`) and slots.

    Each with the class that defines it.
    """
    for base in type(error).__mro__:
        if base in (BaseException, object):
            continue
        for name, field in vars(base).items():
            if isinstance(field, _FIELD_TYPES) and name[:2] != "__":
                try:
                    yield base, name, field.__get__(error, type(error))
                except AttributeError:  # not set
                    continue
