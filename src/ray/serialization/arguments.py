"""Which arguments travel inside a task's record, and which are put into the store by themselves.

The API text: `put` is called on the arguments to a task "unless the arguments are Python primitives
like integers or short strings, lists, tuples, or dictionaries".
"""

from typing import Any

from ray.config import LIMITS

_ENTRIES = LIMITS.argument_entries
_ELEMENTS = LIMITS.argument_elements
_ATOMS = frozenset((type(None), bool, float))
_TEXTS = frozenset((str, bytes))
_CONTAINERS = frozenset((tuple, list, dict))
_WORD = 1 << 63


def is_simple(value: Any) -> bool:
    """Whether an argument travels with the task.

    So do None, bool, int, float, str, bytes, and lists, tuples and dicts of these, all of exactly
    these types, with fewer than 100 entries in each container and fewer than 1,000 elements and
    characters in all.  An int beyond 64 bits counts as one element more for each 64 bits.
    """
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is int:
        return _length(value) < _ELEMENTS - 1
    if kind in _TEXTS:
        return len(value) < _ELEMENTS - 1
    return kind in _CONTAINERS and _is_simple_container(value)


def _is_simple_container(container: Any) -> bool:
    # Not recursive: depth is bounded by nothing but the number of elements.
    room = _ELEMENTS - 1
    containers = [container]
    while containers:
        items = containers.pop()
        if len(items) >= _ENTRIES:
            return False
        if type(items) is dict:
            items = (*items, *items.values())
        room -= len(items)
        for item in items:
            kind = type(item)
            if kind in _ATOMS:
                continue
            if kind is int:
                room -= _length(item)
            elif kind in _TEXTS:
                room -= len(item)
            elif kind in _CONTAINERS:
                containers.append(item)
            else:
                return False
        if room <= 0:
            return False
    return True


def _length(number: int) -> int:
    return 0 if -_WORD <= number < _WORD else number.bit_length() // 64
