"""ray.map: as the builtin's results, in tasks of many items each."""

import itertools
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ray
from ray import errors
from ray._kernel import current

pytestmark = pytest.mark.usefixtures("cluster")


def double(x: Any) -> Any:
    return 2 * x


def tasks_done() -> int:
    arena = current()
    assert arena is not None
    return arena.stats()["tasks_done"]


@pytest.mark.statement("more-map-01")
@pytest.mark.parametrize(
    "items",
    [[], [1], list(range(1000)), tuple("abc"), range(7, 3000, 3), "text", deque([1, 2]), {3: 4}, iter([5])],
    ids=lambda items: type(items).__name__,
)
def test_as_the_builtin(items: Any) -> None:
    expected = [double(item) for item in (list(items) if hasattr(items, "__next__") else items)]
    again = iter([5]) if hasattr(items, "__next__") else items
    assert ray.map(double, again) == expected


@pytest.mark.statement("more-map-01")
def test_arrays_are_cut_along_their_first_axis() -> None:
    table = np.arange(3000.0).reshape(1000, 3)
    found = ray.map(np.sum, table)
    assert found == list(table.sum(axis=1))
    assert type(ray.map(double, np.arange(3))[0]) is np.int64


@pytest.mark.statement("more-map-01")
def test_several_iterables_end_with_the_shortest() -> None:
    assert ray.map(lambda x, y: (x, y), range(5), "abc") == [(0, "a"), (1, "b"), (2, "c")]


@pytest.mark.statement("more-map-01")
def test_few_tasks_for_many_short_items() -> None:
    before = tasks_done()
    assert ray.map(double, range(100_000)) == list(range(0, 200_000, 2))
    assert 4 <= tasks_done() - before < 100


@pytest.mark.statement("more-map-01")
def test_long_items_are_shared_out_evenly() -> None:
    """The last chunks are single items: no worker has much more to do than the other."""

    def who(_: int) -> int:
        time.sleep(0.01)
        return os.getpid()

    shares = [list(found).count(pid) for found in [ray.map(who, range(60))] for pid in set(found)]
    assert len(shares) == 2
    assert max(shares) - min(shares) <= 6, shares


@pytest.mark.statement("more-map-02")
def test_chunks_of_a_given_size() -> None:
    before = tasks_done()
    assert ray.map(double, range(10), chunk_size=4) == list(range(0, 20, 2))
    assert tasks_done() - before == 3
    for wrong, error in ((0, errors.ArgumentError), (1.5, errors.ArgumentTypeError)):
        with pytest.raises(error, match="chunk_size"):
            ray.map(double, [1], chunk_size=wrong)  # type: ignore[arg-type]


@pytest.mark.statement("more-map-03")
def test_remote_functions_with_their_options() -> None:
    @ray.remote(num_cpus=2)
    def one_at_a_time(_: int) -> tuple[float, float]:
        began = time.monotonic()
        time.sleep(0.01)
        return began, time.monotonic()

    spans = sorted(ray.map(one_at_a_time, range(6), chunk_size=1))
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))

    @ray.remote(num_return_vals=2)
    def two() -> tuple[int, int]:
        return 1, 2

    with pytest.raises(errors.ArgumentError, match="num_return_vals=1"):
        ray.map(two, [1])


@pytest.mark.statement("more-map-03")
def test_inside_a_task_also_with_a_function_from_outside() -> None:
    remote_double = ray.remote(double)

    @ray.remote
    def nested(function: Any) -> list[int]:
        return ray.map(function, range(100))

    assert ray.get(nested.remote(remote_double)) == list(range(0, 200, 2))


@pytest.mark.statement("more-map-04")
def test_ids_stand_for_their_values() -> None:
    items = [ray.put(1), 2, ray.remote(double).remote(4)]
    assert ray.map(double, items) == [2, 4, 16]
    assert ray.map(lambda x, y: x + y, items[:2], (10, 20)) == [ray.get(items[0]) + 10, 22]


@pytest.mark.statement("more-map-05")
@pytest.mark.parametrize("chunk_size", [None, 1, 7, 1000])
def test_the_first_failure_in_order_is_raised(chunk_size: int | None) -> None:
    def fails_late_at_first(x: int) -> int:
        if x == 3:
            time.sleep(0.1)
        if x in (3, 15):
            raise ValueError(f"item {x}")
        return x

    with pytest.raises(ValueError, match="item 3") as raised:
        ray.map(fails_late_at_first, range(20), chunk_size=chunk_size)
    assert "for item 3 of ray.map" in str(raised.value)


@pytest.mark.statement("more-map-05")
@pytest.mark.parametrize("function", [None, 3, "text"], ids=repr)
def test_what_is_no_function(function: Any) -> None:
    with pytest.raises(errors.ArgumentTypeError, match=r"ray\.map"):
        ray.map(function, [1])


@pytest.mark.statement("more-map-05")
def test_without_items_or_with_a_class() -> None:
    with pytest.raises(errors.ArgumentTypeError, match="items"):
        ray.map(double)

    @ray.remote
    class Actor:
        pass

    with pytest.raises(errors.ArgumentTypeError, match="function"):
        ray.map(Actor, [1])


def test_nothing_is_kept() -> None:
    arena = current()
    assert arena is not None
    function: Callable[[int], np.ndarray] = lambda x: np.zeros(10_000) + x  # noqa: E731
    assert len(ray.map(function, range(100))) == 100
    before = arena.stats()["objects"]
    for _ in range(5):
        assert len(ray.map(function, range(100))) == 100
    assert arena.stats()["objects"] <= before + 8
