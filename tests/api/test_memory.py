"""What nobody refers to is freed, ids inside values included; a store that stays full says so."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ray
from ray import errors
from ray._kernel import current
from tests.api.programs import wait_for

Init = Callable[..., dict[str, Any]]
STORE_BYTES = 32 << 20
PART_BYTES = 4 << 20


def stats() -> dict[str, int]:
    arena = current()
    assert arena is not None
    return arena.stats()


@pytest.mark.statement("more-end-06")
@pytest.mark.usefixtures("cluster")
def test_many_puts_and_tasks_in_constant_memory() -> None:
    """A hundred times the store's worth of values, and 20,000 tasks."""

    @ray.remote
    def same(value: Any) -> Any:
        return value

    ray.get(same.remote(0))
    before = stats()
    for _ in range(20_000):
        ray.put("small")
    for _ in range(20):
        ray.get([same.remote(number) for number in range(1000)])
    for _ in range(100):
        ray.get(same.remote(np.zeros(10**5)))
    for key in ("objects", "tasks", "references", "heap_blocks", "heap_used_bytes"):
        assert wait_for(lambda key=key: stats()[key] <= before[key] + 8 or None, 5), (key, before, stats())
    assert stats()["heap_touched_bytes"] - before["heap_touched_bytes"] < 50 * 10**6


@pytest.mark.statement("more-end-06")
@pytest.mark.usefixtures("cluster")
def test_ids_inside_values_are_freed_with_them() -> None:
    """A chain of a thousand values, each holding the id of the next."""
    before = stats()
    link = ray.put(np.zeros(10_000))
    for _ in range(1000):
        link = ray.put([link])
    assert stats()["objects"] >= before["objects"] + 1000
    del link
    for key in ("objects", "heap_used_bytes"):
        assert wait_for(lambda key=key: stats()[key] <= before[key] or None, 10), (key, before, stats())


@pytest.mark.statement("more-end-07")
def test_a_store_that_stays_full(init: Init) -> None:
    init(num_cpus=1, object_store_memory=STORE_BYTES, config={"store_full_wait_ms": 300, "spill_fraction": 0})
    kept = [ray.put(np.zeros(PART_BYTES, np.uint8)) for _ in range(7)]
    began = time.monotonic()
    with pytest.raises(errors.ObjectStoreFullError) as full:
        ray.put(np.zeros(2 * PART_BYTES, np.uint8))
    assert 0.25 < time.monotonic() - began < 5
    assert full.value.wanted_bytes >= 2 * PART_BYTES
    assert full.value.used_bytes >= 7 * PART_BYTES
    assert full.value.capacity_bytes <= STORE_BYTES + PART_BYTES
    assert len(kept) == 7
    kept.pop()
    kept.pop()
    assert ray.get(ray.put(np.ones(2 * PART_BYTES, np.uint8)))[-1] == 1


@pytest.mark.statement("more-end-07")
def test_a_full_store_is_waited_for(init: Init) -> None:
    """Room that another thread makes is taken."""
    init(num_cpus=1, object_store_memory=STORE_BYTES, config={"spill_fraction": 0})
    kept = [ray.put(np.zeros(PART_BYTES, np.uint8)) for _ in range(7)]
    timer = threading.Timer(0.3, kept.clear)
    timer.start()
    began = time.monotonic()
    assert ray.get(ray.put(np.ones(2 * PART_BYTES, np.uint8)))[-1] == 1
    assert time.monotonic() - began > 0.2
    timer.join()
