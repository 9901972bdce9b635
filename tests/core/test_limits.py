"""The node's limits: of worker processes, and of the kernel's tables."""

from collections.abc import Iterator

import pytest

import ray
from ray import errors
from ray.core import session_state

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


@pytest.mark.usefixtures("few_workers")
def test_a_full_table_is_named() -> None:
    def nothing() -> None: ...

    def fill() -> None:
        for number in range(1, SHAPES + 2):
            ray.get(ray.remote(num_cpus=number / 10_000)(nothing).remote())

    with pytest.raises(errors.TableFullError, match="resource demands") as full:
        fill()
    assert full.value.capacity == SHAPES
    assert ray.get(ray.remote(num_cpus=1 / 10_000)(len).remote("as before")) == 9
