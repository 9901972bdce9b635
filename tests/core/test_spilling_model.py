"""Values stored, spilled, brought back, held and freed in random order, against a dictionary."""

import os
import tempfile
import time

from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ray import _kernel

KIB = 1 << 10
HEAP_BYTES = 1024 * KIB
FILE_BYTES = 2048 * KIB
RAW = 2
SIZES = st.sampled_from([0, 60, 4096, 4097, 20_000, 70_000, 200_000, 400_000])
PICK = st.integers(0, 1 << 30)


class Model(RuleBasedStateMachine):
    """The store is one arena whose heap holds a handful of the values, and whose file twice as much."""

    def __init__(self) -> None:
        super().__init__()
        self.arena = _kernel.Arena.create(HEAP_BYTES, [10_000, 0, 0])
        self.arena.register(_kernel.DRIVER, os.urandom(16) + bytes(4))
        with tempfile.TemporaryFile() as file:
            self.arena.set_spill_file(file.fileno(), FILE_BYTES)
        self.values: list[tuple[_kernel.ObjectID, bytes]] = []
        self.views: list[tuple[_kernel.View, bytes]] = []
        self.made = 0

    def _bytes(self, size: int) -> bytes:
        self.made += 1
        pattern = self.made.to_bytes(4, "little") + b"value"
        return (pattern * (size // len(pattern) + 1))[:size]

    @rule(size=SIZES)
    def put(self, size: int) -> None:
        data = self._bytes(size)
        try:
            self.values.append((self.arena.put(data, RAW), data))
        except _kernel.StoreFull as full:
            _, capacity, used, _ = full.args
            assert used <= capacity == HEAP_BYTES
            # What fits into the heap is refused only while much is held, or heap and file are full of values.
            kept = sum(len(data) for _, data in self.values + self.views)
            assert kept + size > HEAP_BYTES // 4

    @precondition(lambda self: self.values)
    @rule(pick=PICK)
    def get(self, pick: int) -> None:
        oid, expected = self.values[pick % len(self.values)]
        try:
            fmt, data = self.arena.get(oid)
        except _kernel.StoreFull:
            return
        assert (fmt, bytes(data)) == (RAW, expected)

    @precondition(lambda self: self.values and len(self.views) < 4)
    @rule(pick=PICK)
    def hold(self, pick: int) -> None:
        oid, expected = self.values[pick % len(self.values)]
        try:
            data = self.arena.get(oid)[1]
        except _kernel.StoreFull:
            return
        if isinstance(data, _kernel.View):
            self.views.append((data, expected))

    @precondition(lambda self: self.views)
    @rule(pick=PICK)
    def let_go(self, pick: int) -> None:
        del self.views[pick % len(self.views)]

    @precondition(lambda self: self.values)
    @rule(pick=PICK)
    def drop(self, pick: int) -> None:
        del self.values[pick % len(self.values)]

    @rule(size=SIZES)
    def spill(self, size: int) -> None:
        before = self.arena.stats()["heap_used_bytes"]
        freed = self.arena.spill(size)
        assert before - self.arena.stats()["heap_used_bytes"] == freed

    @invariant()
    def what_is_held_is_as_it_was(self) -> None:
        for view, expected in self.views:
            assert bytes(view) == expected

    @invariant()
    def the_tables_are_whole(self) -> None:
        assert self.arena.check() == []

    def teardown(self) -> None:
        while self.values:
            oid, expected = self.values.pop()
            try:
                assert bytes(self.arena.get(oid)[1]) == expected
            except _kernel.StoreFull:
                # Heap and file are both so full that neither has a hole for what the other should take.
                kept = sum(len(data) for _, data in self.values + self.views)
                assert kept > HEAP_BYTES // 4
            del oid
        self.views.clear()
        self.arena.allocate(1)  # lets queued drops go first
        stats = self.arena.stats()
        assert stats["heap_used_bytes"] == stats["spill_file_used_bytes"] == 0
        self.arena.leave()


def test_values_against_a_dictionary() -> None:
    number = int(os.environ.get("RAY_SEED") or time.time_ns() % 1_000_000_007)
    print(f"RAY_SEED={number}")
    run_state_machine_as_test(
        seed(number)(Model),
        settings=settings(
            max_examples=120,
            stateful_step_count=50,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
