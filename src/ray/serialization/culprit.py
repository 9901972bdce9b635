"""Which part of a value cannot be pickled, for error messages.

A search by trial: a part that fails is looked into, until a failing part has no failing parts of
its own.  Bounded in depth, in parts and in time, since values can be large.
"""

import time
import types
from collections.abc import Iterator
from typing import Any

from ray.config import LIMITS
from ray.serialization.pickling import dumps_out_of_band
from ray.serialization.tracebacks import module_and_name, shorten

_DEPTH = 8
_NAME_BYTES = 512
_PARTS = 200  # of one container


def find_culprit(value: object) -> tuple[str, str]:
    """The path to the part at fault ("" for the value itself) and the name of its type."""
    deadline = time.monotonic() + LIMITS.culprit_search_ms / 1000
    path = ""
    seen = {id(value)}
    for _ in range(_DEPTH):
        for name, part in _parts(value):
            if time.monotonic() > deadline:
                return path.lstrip(" ."), _type_name(value)
            if id(part) not in seen and not _can_pickle(part):
                seen.add(id(part))
                path, value = path + name, part
                break
        else:
            break
    return path.lstrip(" ."), _type_name(value)


def _can_pickle(value: object) -> bool:
    try:
        dumps_out_of_band(value)
    except (Exception, SystemExit):
        return False
    return True


def _type_name(value: object) -> str:
    module, name = module_and_name(type(value))
    return shorten(name if module == "builtins" else f"{module}.{name}", _NAME_BYTES)


def _parts(value: Any) -> Iterator[tuple[str, object]]:
    """The parts that pickling the value would pickle, each with its step of the path."""
    try:
        yield from _parts_unguarded(value)
    except (Exception, SystemExit):  # a user's __getattribute__, keys or iterator: nothing is known then
        return


def _parts_unguarded(value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, part in list(value.items())[:_PARTS]:
            yield f"[{_short(key)}]", part
            yield f" key {_short(key)}", key
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value[:_PARTS]):
            yield f"[{index}]", part
    elif isinstance(value, set | frozenset):
        for part in list(value)[:_PARTS]:
            yield f" element {_short(part)}", part
    if isinstance(value, types.FunctionType):
        yield from _function_parts(value)
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
        yield ".__func__", value.__func__
    elif isinstance(value, type):
        for name, part in list(vars(value).items())[:_PARTS]:
            if not isinstance(part, types.GetSetDescriptorType | types.MemberDescriptorType):
                inner = part.__func__ if isinstance(part, staticmethod | classmethod) else part
                yield f".{name}", inner
    elif not isinstance(value, types.ModuleType):
        for name, part in list(getattr(value, "__dict__", {}).items())[:_PARTS]:
            yield f".{name}", part
        for name in getattr(type(value), "__slots__", ()):
            if hasattr(value, name):
                yield f".{name}", getattr(value, name)


def _function_parts(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f" closure variable {name!r}", cell.cell_contents
        except ValueError:  # an empty cell
            continue
    for name in _global_names(code):
        if name in function.__globals__:
            yield f" global {name!r}", function.__globals__[name]
    for index, part in enumerate(function.__defaults__ or ()):
        yield f" default {index}", part
    for name, part in (function.__kwdefaults__ or {}).items():
        yield f" default of {name!r}", part


def _global_names(code: types.CodeType) -> list[str]:
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names += _global_names(constant)
    return list(dict.fromkeys(names))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
