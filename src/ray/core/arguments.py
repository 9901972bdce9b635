"""A call's arguments as bytes and ids.

Four forms, told apart by the first byte:

    (nothing)    no arguments
    80 ...       a pickle (protocol 2 and later begins with this byte) of the tuple of positional arguments
    01 ...       then a pickle of (positional arguments, keyword arguments, places of the dependencies)
    02           the dependencies, in order, are the positional arguments

Dependencies are the ids among the arguments, whose values the kernel waits for, and the arguments that
are put into the store by themselves because they are no small builtin values (the text's rule).
An actor's call is encoded with the method's name before the arguments.
"""

import pickle
from typing import Any, TypeVar

from ray._kernel import COPY_BYTES, Block, ObjectID, collect
from ray.core.session_state import Current
from ray.core.store import block_of, put
from ray.serialization.arguments import is_simple
from ray.serialization.values import ATOMS, TEXTS

_dumps = pickle.dumps
_loads = pickle.loads

T = TypeVar("T")

Encoded = tuple[bytes | Block, list[ObjectID] | None, list[ObjectID] | None]

NO_ARGUMENTS: Encoded = (b"", None, None)

SHORT = 64  # characters or bytes that need no further look

_PICKLE = 0x80
_GENERAL = 0x01
_DEPENDENCIES = 0x02
_ALL_DEPENDENCIES = bytes([_DEPENDENCIES])

_NO_KEYWORDS: dict[str, Any] = {}

_handles: set[type] = set()


def carry(kind: type[T]) -> type[T]:
    """Values of this type travel inside the arguments, with the ids they contain (handles)."""
    _handles.add(kind)
    return kind


def encode(session: Current, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Encoded:
    """Payload, dependencies and other ids contained.  Puts large arguments, so it may wait for room.

    Raises SerializationError for an argument that can't be pickled."""
    if not kwargs:
        for value in args:
            kind = type(value)
            if kind in ATOMS or (kind in TEXTS and len(value) <= SHORT):
                continue
            break
        else:
            data = _dumps(args, 5)
            return data if len(data) <= COPY_BYTES else block_of(session, data), None, None
    return _encode(session, args, kwargs)


def _encode(session: Current, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Encoded:
    deps: list[ObjectID] = []
    places: list[int | str] = []
    positional: list[Any] = list(args)
    keywords = dict(kwargs)
    contains = False  # ids may be inside the values that stay

    values: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    for place, value in values:
        kind = type(value)
        if kind is ObjectID:
            deps.append(value)
        elif kind in ATOMS:
            continue
        elif kind in _handles or is_simple(value):
            contains = True
            continue
        else:
            deps.append(put(session, value))
        places.append(place)
        if isinstance(place, int):
            positional[place] = None
        else:
            del keywords[place]

    if len(deps) == len(positional) and not kwargs:
        return _ALL_DEPENDENCIES, deps, None
    plain: Any = (positional, keywords, places) if places or keywords else args
    nested = None
    if contains:
        data, nested = collect(_dumps, plain, 5)
    else:
        data = _dumps(plain, 5)
    if plain is not args:
        data = b"\x01" + data
    return block_of(session, data), deps or None, nested


def decode(payload: bytes, values: list[Any]) -> tuple[Any, dict[str, Any]]:
    """Positional and keyword arguments, from the payload and the dependencies' values in order."""
    if not payload:
        return (), _NO_KEYWORDS
    form = payload[0]
    if form == _PICKLE:
        return _loads(payload), _NO_KEYWORDS
    if form == _DEPENDENCIES:
        return values, _NO_KEYWORDS
    positional, keywords, places = _loads(memoryview(payload)[1:])
    for place, value in zip(places, values, strict=True):
        if type(place) is int:
            positional[place] = value
        else:
            keywords[place] = value
    return positional, keywords


def place_of(payload: bytes, index: int) -> str | int:
    """Where the dependency of this index stands: a position from 0, or a keyword's name.  For messages."""
    if payload[0] != _GENERAL:
        return index
    _, _, places = _loads(memoryview(payload)[1:])
    place: str | int = places[index]
    return place
