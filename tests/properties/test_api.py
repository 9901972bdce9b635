"""The public API against plain Python: every task and call is also done here at once, and values compared.

Meanwhile workers are killed. Tasks run again, and actors come back from checkpoints, so nothing of it may
be seen.
"""

import dataclasses
import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import ray
from ray import _kernel
from tests.api.programs import wait_for
from tests.properties.api_work import Log, Refusal, digest, hand_over, mix, mix_inside, mixed, refuse, three
from tests.properties.forms import run_machine

SETTLE_S = 10.0
PICK = st.integers(0, 1 << 30)
SEVERAL = st.lists(PICK, max_size=4)
ACTORS_MAX = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    oid: ray.ObjectID
    value: Any = None
    refusal: str | None = None


VALUES = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=20),
    st.binary(max_size=200),
    st.lists(st.integers(), max_size=5),
    st.dictionaries(st.text(max_size=3), st.floats(allow_nan=False), max_size=3),
    st.tuples(st.sampled_from(["u1", "i4", "f8"]), st.integers(0, 60_000)).map(
        lambda made: np.arange(made[1]).astype(made[0])
    ),
)


class Api(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.arena = ray._kernel.current()
        self.entries: list[Entry] = []
        self.actors: list[tuple[Any, list[int]]] = []

    def _picked(self, picks: list[int]) -> list[Entry]:
        return [self.entries[pick % len(self.entries)] for pick in picks] if self.entries else []

    def _done(self, oid: ray.ObjectID, arguments: list[Entry], value: Any) -> None:
        """The first argument that is a failure is the result."""
        refusal = next((each.refusal for each in arguments if each.refusal is not None), None)
        self.entries.append(Entry(oid, None if refusal else value, refusal))

    # --- making ---

    @rule(value=VALUES)
    def put(self, value: Any) -> None:
        self.entries.append(Entry(ray.put(value), value))

    @rule(picks=SEVERAL, constant=VALUES)
    def task(self, picks: list[int], constant: Any) -> None:
        given = self._picked(picks)
        oid = mix.remote(constant, *(each.oid for each in given))
        self._done(oid, given, mixed(constant, *(each.value for each in given)))

    @rule(picks=SEVERAL, by_id=st.booleans())
    def task_with_a_box(self, picks: list[int], by_id: bool) -> None:
        given = [each for each in self._picked(picks) if each.refusal is None]
        box = [each.oid for each in given]
        oid = mix_inside.remote(ray.put(box) if by_id else box)
        self._done(oid, [], mixed(*(each.value for each in given)))

    @precondition(lambda self: self.entries)
    @rule(pick=PICK)
    def several_results(self, pick: int) -> None:
        (given,) = self._picked([pick])
        ids = three.remote(given.oid)
        for oid, value in zip(ids, (mixed(given.value), bytes(10_000), given.value), strict=True):
            self._done(oid, [given], value)

    @precondition(lambda self: self.entries)
    @rule(pick=PICK)
    def what_a_task_has_put(self, pick: int) -> None:
        (given,) = self._picked([pick])
        if given.refusal is None:
            (oid,) = ray.get(hand_over.remote(given.oid))
            self._done(oid, [], given.value)

    @rule(text=st.text(max_size=10))
    def refusal(self, text: str) -> None:
        self.entries.append(Entry(refuse.remote(text), refusal=text))

    @precondition(lambda self: len(self.actors) < ACTORS_MAX)
    @rule(value=VALUES)
    def actor(self, value: Any) -> None:
        self.actors.append((Log.remote(value), [mixed(value)]))

    @precondition(lambda self: self.actors)
    @rule(pick=PICK, picks=SEVERAL, count=st.integers(1, 5))
    def call(self, pick: int, picks: list[int], count: int) -> None:
        handle, entries = self.actors[pick % len(self.actors)]
        given = self._picked(picks)
        for _ in range(count):
            oid = handle.add.remote(*(each.oid for each in given))
            if all(each.refusal is None for each in given):
                entries.append(mixed(*(each.value for each in given)))
            self._done(oid, given, mixed(*entries))

    # --- reading ---

    @precondition(lambda self: self.entries)
    @rule(pick=PICK)
    def get(self, pick: int) -> None:
        (entry,) = self._picked([pick])
        if entry.refusal is not None:
            with pytest.raises(Refusal, match=r"[\s\S]*") as caught:
                ray.get(entry.oid)
            assert caught.value.args == (entry.refusal,)
            return
        found = ray.get(entry.oid)
        assert type(found) is type(entry.value)
        assert digest(found) == digest(entry.value)

    @rule(picks=SEVERAL)
    def get_several(self, picks: list[int]) -> None:
        given = [each for each in self._picked(picks) if each.refusal is None]
        found = ray.get([each.oid for each in given])
        assert [digest(value) for value in found] == [digest(each.value) for each in given]

    @precondition(lambda self: self.entries)
    @rule(picks=SEVERAL, count=PICK)
    def wait(self, picks: list[int], count: int) -> None:
        ids = list({each.oid: None for each in self._picked(picks)})
        if not ids:
            return
        wanted = 1 + count % len(ids)
        ready, rest = ray.wait(ids, num_returns=wanted)
        assert len(ready) == wanted
        assert sorted(each.hex() for each in ready + rest) == sorted(each.hex() for each in ids)
        for oid in ready:
            assert self.arena.is_ready(oid)

    # --- letting go, and losing ---

    @precondition(lambda self: self.entries)
    @rule(pick=PICK)
    def drop(self, pick: int) -> None:
        del self.entries[pick % len(self.entries)]

    @precondition(lambda self: self.actors)
    @rule(pick=PICK)
    def drop_actor(self, pick: int) -> None:
        """Its calls are run all the same."""
        del self.actors[pick % len(self.actors)]

    @rule(pick=PICK)
    def kill_a_worker(self, pick: int) -> None:
        pids = [pid for pid, _, kind, _, _ in self.arena.processes() if kind == _kernel.WORKER]
        if pids:
            try:
                os.kill(pids[pick % len(pids)], signal.SIGKILL)
            except ProcessLookupError:
                return

    def teardown(self) -> None:
        if not hasattr(self, "entries"):
            return
        for pick in range(len(self.entries)):
            self.get(pick)
        self.entries.clear()
        self.actors.clear()
        gc.collect()  # the errors that were raised are in cycles with their frames
        assert wait_for(lambda: not self._left() or None, SETTLE_S), f"left: {self._left()}"
        assert self.arena.check() == []

    def _left(self) -> dict[str, int]:
        self.arena.journal_read(0)  # drops go first
        stats = self.arena.stats()
        names = ("tasks", "links", "actors", "lanes", "running_tasks", "ready_tasks")
        return {name: stats[name] for name in names if stats[name]}


@pytest.fixture
def session() -> Iterator[None]:
    ray.init(num_cpus=2, driver_mode=ray.SILENT_MODE, config={"restart_limit": 1_000_000})
    yield
    ray.shutdown()


@pytest.mark.usefixtures("session")
def test_the_api_against_plain_python() -> None:
    run_machine(Api, short=5, steps=30)
