"""`ray.map`: a function over many items, in tasks that take a chunk of them each."""

import itertools
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ray._kernel import ObjectID
from ray.core import store
from ray.core.remote_function import RemoteFunction
from ray.core.resources import at_once
from ray.core.session_state import Current
from ray.core.timeouts import FOREVER_MS
from ray.policy.chunks import MapProgress, chunk_size, most_under_way


class OverChunk:
    """A function as the tasks of a map run it; pickled with the function inside, by this class's name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        # By these the function is known in errors and listings.
        self.__module__ = getattr(function, "__module__", None) or ""
        self.__name__ = getattr(function, "__name__", None) or repr(function)
        self.__qualname__ = getattr(function, "__qualname__", None) or self.__name__

    def __call__(self, place: int, width: int, chunk: Iterable[Any], *flat: Any) -> tuple[list[Any], float]:
        """The results, and the seconds that they took.

        An item is `width` arguments of the function; those in `flat` are arguments of the task as well."""
        began = time.perf_counter()
        results: list[Any] = []
        if flat:
            chunk = flat if width == 1 else zip(*[iter(flat)] * width, strict=True)
        try:
            results.extend((map if width == 1 else itertools.starmap)(self._function, chunk))
        except Exception as error:
            error.add_note(f"It was raised for item {place + len(results)} of ray.map.")
            raise
        return results, time.perf_counter() - began


# What a remote function's own calls run is one object in the session; what its maps run is another.
_over_chunks: weakref.WeakKeyDictionary[RemoteFunction, RemoteFunction] = weakref.WeakKeyDictionary()


def chunked_map(
    session: Current, function: RemoteFunction, iterables: Sequence[Iterable[Any]], size: int | None
) -> list[Any]:
    """The results in the order of the items; `size` items a task, or as many as suit the work.

    Raises ArgumentError for a function with several results, else what `function` raised, the first in
    the order of the items."""
    over_chunk = _over_chunks.get(function)
    if over_chunk is None:
        over_chunk = _over_chunks[function] = function.transformed(session, OverChunk)
    return _Map(session, over_chunk, iterables, size).run()


class _Map:
    """One call under way: which chunks have been submitted, and what has come back."""

    def __init__(
        self,
        session: Current,
        over_chunk: RemoteFunction,
        iterables: Sequence[Iterable[Any]],
        size: int | None,
    ) -> None:
        self._session = session
        self._over_chunk = over_chunk
        self._width = len(iterables)
        self._items = _sliceable(iterables[0] if self._width == 1 else zip(*iterables, strict=False))
        self._size = size
        self._workers = at_once(session, over_chunk.demand)
        self._submitted = 0  # items
        self._fastest_item_s = 0.0
        self._places: dict[ObjectID, int] = {}  # of the first item of each chunk under way
        self._results: dict[int, list[Any]] = {}

    def run(self) -> list[Any]:
        limit = most_under_way(self._workers)
        while self._submitted < len(self._items) or self._places:
            while self._submitted < len(self._items) and len(self._places) < limit:
                self._submit()
            ready, _ = self._session.arena.wait(list(self._places), 1)
            self._take(ready[0])
        return list(itertools.chain.from_iterable(self._results[place] for place in sorted(self._results)))

    def _submit(self) -> None:
        place = self._submitted
        size = self._size
        if size is None:
            progress = MapProgress(len(self._items) - place, self._workers, self._fastest_item_s)
            size = chunk_size(progress)
        chunk = self._items[place : place + size]
        self._submitted = place + len(chunk)
        if type(chunk) in (list, tuple) and ObjectID in map(type, self._flat(chunk)):
            # Ids stand for their values only as arguments of the task.
            oid = self._over_chunk.remote(place, self._width, (), *self._flat(chunk))
        else:
            oid = self._over_chunk.remote(place, self._width, chunk)
        self._places[oid] = place

    def _flat(self, chunk: Iterable[Any]) -> Iterable[Any]:
        return chunk if self._width == 1 else itertools.chain.from_iterable(chunk)

    def _take(self, oid: ObjectID) -> None:
        place = self._places.pop(oid)
        try:
            results, seconds = self._value(oid)
        except Exception:
            # The order of the items decides which failure is raised, not the order of the chunks' ends.
            for earlier in sorted(self._places, key=self._places.__getitem__):
                if self._places[earlier] < place:
                    self._value(earlier)
            raise
        self._results[place] = results
        if results:
            item_s = seconds / len(results)
            self._fastest_item_s = min(item_s, self._fastest_item_s or item_s)

    def _value(self, oid: ObjectID) -> tuple[list[Any], float]:
        value: tuple[list[Any], float] = store.value_of(
            self._session, store.get(self._session, oid, FOREVER_MS), "the result of a chunk"
        )
        return value


def _sliceable(items: Iterable[Any]) -> Sequence[Any]:
    """The items themselves if a slice of them holds the same items; else a list of them."""
    if type(items) in (list, tuple, range):
        return items  # type: ignore[return-value]
    numpy = sys.modules.get("numpy")
    if numpy is not None and type(items) is numpy.ndarray and items.ndim:  # type: ignore[attr-defined]
        return items  # type: ignore[return-value]
    return list(items)
