"""The store as one process sees it, against a dictionary: ids in values, aliases, failures, promises.

The heap holds a handful of the values and the spill file twice as much, so that most of what is read
was out and came back.
"""

import dataclasses
import os
import tempfile
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ray import _kernel
from tests.properties.forms import run_machine

KIB = 1 << 10
HEAP_BYTES = 1024 * KIB
FILE_BYTES = 2048 * KIB
RAW, FAILURE = 2, 150
SIZES = st.sampled_from([0, 60, 70, 4096, 4097, 20_000, 70_000, 200_000])
PICK = st.integers(0, 1 << 30)
SEVERAL = st.lists(PICK, max_size=4)
MANY = st.lists(PICK, max_size=12)  # more than one transaction links at once
VIEWS = 3


@dataclasses.dataclass
class Object:
    binary: bytes
    key: int
    fmt: int | None = None  # None: a promise
    data: bytes = b""
    nested: tuple[int, ...] = ()


class Store(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.arena = _kernel.Arena.create(HEAP_BYTES, [10_000, 0, 0])
        self.arena.register(_kernel.DRIVER, os.urandom(16) + bytes(4))
        self.arena.make_current()
        with tempfile.TemporaryFile() as file:
            self.arena.set_spill_file(file.fileno(), FILE_BYTES)
        self.objects: dict[int, Object] = {}
        self.ids: list[tuple[int, _kernel.ObjectID]] = []
        self.views: list[tuple[int, Any, bytes]] = []
        self.dead: list[Object] = []
        self.made = 0

    # --- the model ---

    def _living(self) -> set[int]:
        living: set[int] = set()
        todo = [number for number, _ in self.ids] + [number for number, _, _ in self.views]
        while todo:
            number = todo.pop()
            if number not in living:
                living.add(number)
                todo += self.objects[number].nested
        return living

    def _forget_the_dead(self) -> None:
        for number in self.objects.keys() - self._living():
            self.dead.append(self.objects.pop(number))

    def _seen(self, number: int) -> Object:
        """The object itself, or what its aliases lead to."""
        known = self.objects[number]
        return self._seen(known.nested[0]) if known.fmt == _kernel.FORMAT_ALIAS else known

    def _leads_to(self, number: int, goal: int) -> bool:
        return number == goal or any(self._leads_to(each, goal) for each in self.objects[number].nested)

    def _picked(self, picks: list[int]) -> dict[int, _kernel.ObjectID]:
        return dict(self.ids[pick % len(self.ids)] for pick in picks) if self.ids else {}

    def _bytes(self, size: int) -> bytes:
        self.made += 1
        pattern = self.made.to_bytes(4, "little") + b"value"
        return (pattern * (size // len(pattern) + 1))[:size]

    def _note(self, oid: _kernel.ObjectID, known: Object) -> None:
        self.made += 1
        self.objects[self.made] = known
        self.ids.append((self.made, oid))

    def _may_be_full(self, full: _kernel.StoreFull, size: int) -> None:
        """What fits is refused only while much is kept."""
        _, capacity, used, _ = full.args
        assert used <= capacity == HEAP_BYTES
        kept = sum(len(known.data) for known in self.objects.values())
        assert kept + size > HEAP_BYTES // 4

    # --- making ---

    @rule(size=SIZES, picks=MANY, in_place=st.booleans(), failure=st.booleans())
    def put(self, size: int, picks: list[int], in_place: bool, failure: bool) -> None:
        nested, data = self._picked(picks), self._bytes(size)
        fmt = FAILURE if failure else RAW
        try:
            block: _kernel.Data = data
            if in_place:
                block = self.arena.allocate(size)
                for start in range(0, size, 10_000):
                    block.write(start, data[start : start + 10_000])
            oid = self.arena.put(block, fmt, list(nested.values()))
        except _kernel.StoreFull as full:
            self._may_be_full(full, size)
            return
        self._note(oid, Object(oid.binary(), oid.key, fmt, data, tuple(nested)))

    @rule()
    def promise(self) -> None:
        oid = self.arena.reserve()
        self._note(oid, Object(oid.binary(), oid.key))

    @precondition(lambda self: self.ids)
    @rule(pick=PICK, size=SIZES, picks=MANY, failure=st.booleans())
    def keep_promise(self, pick: int, size: int, picks: list[int], failure: bool) -> None:
        number, oid = self.ids[pick % len(self.ids)]
        known, data = self.objects[number], self._bytes(size)
        # What contains itself lives as long as its session; not what is tried here.
        nested = {
            each: held for each, held in self._picked(picks).items() if not self._leads_to(each, number)
        }
        fmt = FAILURE if failure else RAW
        try:
            first = self.arena.seal(oid, data, fmt, list(nested.values()))
        except _kernel.StoreFull as full:
            self._may_be_full(full, size)
            return
        assert first == (known.fmt is None)
        if first:
            known.fmt, known.data, known.nested = fmt, data, tuple(nested)

    @precondition(lambda self: self.ids)
    @rule(pick=PICK)
    def alias(self, pick: int) -> None:
        number, target = self.ids[pick % len(self.ids)]
        if self._seen(number).fmt is None:
            return
        oid = self.arena.reserve()
        assert self.arena.seal(oid, b"", _kernel.FORMAT_ALIAS, [target])
        self._note(oid, Object(oid.binary(), oid.key, _kernel.FORMAT_ALIAS, b"", (number,)))

    # --- reading ---

    @precondition(lambda self: self.ids)
    @rule(pick=PICK, hold=st.booleans())
    def get(self, pick: int, hold: bool) -> None:
        number, oid = self.ids[pick % len(self.ids)]
        known = self._seen(number)
        if known.fmt is None:
            with pytest.raises(_kernel.WaitTimeout):
                self.arena.get(oid, 0)
            return
        try:
            fmt, data = self.arena.get(oid)
        except _kernel.StoreFull as full:
            self._may_be_full(full, len(known.data))
            return
        assert (fmt, bytes(data)) == (known.fmt, known.data)
        if hold and isinstance(data, _kernel.View) and len(self.views) < VIEWS:
            seen = next(each for each, other in self.objects.items() if other is known)
            self.views.append((seen, data, known.data))

    @precondition(lambda self: self.ids)
    @rule(picks=SEVERAL)
    def get_many(self, picks: list[int]) -> None:
        chosen = [self.ids[pick % len(self.ids)] for pick in picks]  # one may be there twice
        known = [self._seen(number) for number, _ in chosen]
        try:
            found = self.arena.get_many([oid for _, oid in chosen], 0)
        except _kernel.WaitTimeout:
            formats = [each.fmt for each in known]
            failed = formats.index(FAILURE) if FAILURE in formats else len(formats)
            assert None in formats[:failed]
            return
        except _kernel.StoreFull as full:
            self._may_be_full(full, sum(len(each.data) for each in known))
            return
        wanted: list[tuple[int | None, bytes]] = []
        for each in known:
            wanted.append((each.fmt, each.data))
            if each.fmt == FAILURE:
                break
        assert [(fmt, bytes(data)) for fmt, data in found] == wanted

    @precondition(lambda self: self.ids)
    @rule(picks=MANY, count=st.integers(1, 6))
    def wait(self, picks: list[int], count: int) -> None:
        chosen = self._picked(picks)
        if not chosen:
            return
        count = min(count, len(chosen))
        done = [number for number in chosen if self._seen(number).fmt is not None][:count]
        rest = [number for number in chosen if number not in done]
        ready, remaining = self.arena.wait(list(chosen.values()), count, 0)
        assert ready == [chosen[each] for each in done]
        assert remaining == [chosen[each] for each in rest]

    # --- letting go ---

    @precondition(lambda self: self.ids)
    @rule(pick=PICK)
    def drop(self, pick: int) -> None:
        del self.ids[pick % len(self.ids)]
        self._forget_the_dead()

    @precondition(lambda self: self.views)
    @rule(pick=PICK)
    def drop_view(self, pick: int) -> None:
        del self.views[pick % len(self.views)]
        self._forget_the_dead()

    @precondition(lambda self: self.dead)
    @rule(pick=PICK, with_key=st.booleans())
    def look_for_the_dead(self, pick: int, with_key: bool) -> None:
        gone = self.dead[pick % len(self.dead)]
        self.arena.allocate(1)  # lets queued drops go first
        with pytest.raises(_kernel.StaleHandle):
            self.arena.get(_kernel.ObjectID(gone.binary, gone.key if with_key else 0), 0)

    @rule(size=SIZES)
    def spill(self, size: int) -> None:
        self.arena.spill(size)

    @rule(size=SIZES)
    def change_ones_mind(self, size: int) -> None:
        try:
            block = self.arena.allocate(size)
        except _kernel.StoreFull as full:
            self._may_be_full(full, size)
            return
        assert block.nbytes >= size
        del block

    # --- always ---

    @invariant()
    def the_tables_are_whole(self) -> None:
        if hasattr(self, "arena"):
            self.arena.allocate(1)
            assert self.arena.check() == []
            assert self.arena.stats()["objects"] == len(self.objects)

    @invariant()
    def what_is_held_is_as_it_was(self) -> None:
        for _, view, data in getattr(self, "views", []):
            assert bytes(view) == data

    def teardown(self) -> None:
        if not hasattr(self, "arena"):
            return
        self.ids.clear()
        self.views.clear()
        self.arena.allocate(1)
        stats = self.arena.stats()
        self.arena.leave()
        assert (stats["objects"], stats["links"], stats["references"]) == (0, 0, 0)
        assert (stats["heap_used_bytes"], stats["spill_file_used_bytes"]) == (0, 0)


def test_a_store_against_a_dictionary() -> None:
    run_machine(Store, short=30, steps=60)
