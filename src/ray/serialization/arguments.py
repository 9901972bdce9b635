"""Which arguments travel inside a task's record, and which are put into the store by themselves.

The API text: `put` is called on the arguments to a task "unless the arguments are Python primitives
like integers or short strings, lists, tuples, or dictionaries".
"""

from typing import Any

from ray.config import DEFAULTS

_ENTRIES = DEFAULTS.argument_entries
_ELEMENTS = DEFAULTS.argument_elements
_FIXED = frozenset((type(None), bool, float))


def is_simple(value: object) -> bool:
    """Whether an argument travels with the task.

    So do None, bool, int, float, str, bytes, and lists, tuples and dicts of these, all of exactly
    these types, with fewer than 100 entries in each container and fewer than 1,000 elements and
    characters in all.  An int counts one element for every eight bytes.
    """
    kind = type(value)
    if kind in _FIXED:
        return True
    return _count(value, kind) < _ELEMENTS


def _count(value: Any, kind: type) -> int:
    """Elements and characters; at least the limit for what is not simple."""
    if kind is int:
        return 1 + int(value.bit_length()) // 64
    if kind is str or kind is bytes:
        return 1 + len(value)
    if kind is not tuple and kind is not list and kind is not dict:
        return _ELEMENTS
    if len(value) >= _ENTRIES:
        return _ELEMENTS
    total = 1
    if kind is dict:
        for key in value:
            inner = type(key)
            total += 1 if inner in _FIXED else _count(key, inner)
            if total >= _ELEMENTS:
                return total
        value = value.values()
    for item in value:
        inner = type(item)
        total += 1 if inner in _FIXED else _count(item, inner)
        if total >= _ELEMENTS:
            return total
    return total
