"""The node's limits: of worker processes, and of the kernel's tables."""

import pickle
from collections.abc import Iterator
from typing import Any

import pytest

import ray
from ray import errors
from ray.core import session_state
from ray.serialization import formats

WORKERS = 4
DEPTH = 30
SHAPES = 255  # the kernel's SHAPES_MAX without the unused first


@pytest.fixture
def few_workers() -> Iterator[None]:
    ray.init(num_cpus=2, config={"worker_limit": WORKERS})
    yield
    ray.shutdown()


@pytest.mark.usefixtures("few_workers")
def test_more_tasks_may_wait_than_there_may_be_workers() -> None:
    @ray.remote
    def depth(below: int) -> int:
        return 1 + int(ray.get(depth.remote(below - 1))) if below else 0

    assert ray.get(depth.remote(DEPTH), timeout=60_000) == DEPTH
    arena = session_state.require("test").arena
    assert arena.stats()["workers"] <= WORKERS


@pytest.mark.usefixtures("few_workers")
def test_tasks_that_wait_for_tasks_without_end() -> None:
    @ray.remote
    def without_end() -> None:
        ray.get(without_end.remote())

    with pytest.raises(errors.WorkerLimitError) as reached:
        ray.get(without_end.remote())
    assert reached.value.limit == WORKERS


def _asks_for(demand: float) -> Any:
    def echo(value: Any) -> Any:
        return value

    return ray.remote(num_cpus=demand)(echo)


@pytest.mark.usefixtures("few_workers")
def test_any_number_of_demands_one_after_the_other() -> None:
    known = [_asks_for(number / 10_000) for number in range(1, 2 * SHAPES)]
    for number, echo in enumerate(known):
        assert ray.get(echo.remote(number)) == number
    # The first ones have been forgotten meanwhile, and are made anew.
    for number in (0, 1, SHAPES, 0):
        assert ray.get(known[number].remote(number)) == number


@pytest.mark.usefixtures("few_workers")
def test_more_demands_at_once_than_the_table_has() -> None:
    never = session_state.require("test").arena.reserve()
    queued = []

    def queue() -> None:
        for number in range(1, SHAPES + 2):
            queued.append(_asks_for(number / 10_000).remote(never))

    with pytest.raises(errors.TableFullError, match="resource demands") as full:
        queue()
    assert full.value.capacity == SHAPES
    assert len(queued) >= SHAPES - 2  # the rest is the session's own
    assert ray.get(_asks_for(1 / 10_000).remote("as before")) == "as before"
    session_state.require("test").arena.seal(never, pickle.dumps(None), formats.PICKLE)
    assert ray.get(queued) == [None] * len(queued)
