"""ray.wait: a subset of tasks, in time or on time-out."""

import datetime
import inspect
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ray
from ray import errors
from tests.api.meeting import wait_open

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote(num_cpus=0)
def opened(gate: str) -> str:
    assert wait_open(gate)
    return gate


@pytest.fixture
def gates(tmp_path: Path) -> Callable[[int], list[Any]]:
    """Makes tasks that end when their gate is opened; `gates(n)` returns (ids, open functions)."""

    def make(count: int) -> list[Any]:
        paths = [tmp_path / f"gate{number}" for number in range(count)]
        return [opened.remote(str(path)) for path in paths], [path.touch for path in paths]

    return make


@pytest.mark.statement("wait-01", "wait-02", "wait-04", "wait-call-02")
def test_results_in_the_order_that_they_finish(gates: Callable[[int], Any]) -> None:
    remaining, opens = gates(4)
    ids = list(remaining)
    for number in (2, 0, 3, 1):
        opens[number]()
        ready, remaining = ray.wait(remaining)
        assert ready == [ids[number]]
        assert ids[number] not in remaining
    assert remaining == []


@pytest.mark.statement("wait-03")
def test_stragglers_may_be_left_behind(gates: Callable[[int], Any]) -> None:
    ids, opens = gates(3)
    opens[0]()
    opens[2]()
    ready, stragglers = ray.wait(ids, num_returns=2)
    assert ready == [ids[0], ids[2]]
    assert stragglers == [ids[1]]
    opens[1]()


@pytest.mark.statement("wait-05", "wait-call-04", "wait-call-10")
def test_num_returns(gates: Callable[[int], Any]) -> None:
    """One by default; that exact number without a time-out."""
    ids, opens = gates(4)
    opens[1]()
    assert ray.wait(ids) == ([ids[1]], [ids[0], ids[2], ids[3]])
    opens[3]()
    assert ray.wait(ids, num_returns=2) == ([ids[1], ids[3]], [ids[0], ids[2]])
    opens[0]()
    opens[2]()
    ready, remaining = ray.wait(ids, num_returns=4)
    assert ready == ids
    assert remaining == []


@pytest.mark.statement("wait-06", "wait-call-03", "wait-call-11")
def test_timeout_is_in_milliseconds(gates: Callable[[int], Any]) -> None:
    ids, opens = gates(3)
    opens[0]()
    ray.wait(ids)
    began = time.monotonic()
    assert ray.wait(ids, num_returns=2, timeout=200) == ([ids[0]], [ids[1], ids[2]])
    assert 0.19 < time.monotonic() - began < 5
    began = time.monotonic()
    opens[1]()
    assert len(ray.wait(ids, num_returns=2, timeout=60_000)[0]) == 2
    assert time.monotonic() - began < 30
    assert ray.wait([ids[2]], timeout=0) == ([], [ids[2]])
    opens[2]()


@pytest.mark.statement("wait-07", "wait-08", "wait-call-05", "wait-call-06", "wait-call-07", "wait-call-12")
@pytest.mark.statement("more-wait-02")
def test_two_lists_that_make_up_the_input(gates: Callable[[int], Any]) -> None:
    """For each number asked for: never more than that, and both in the order of the input."""
    ids, opens = gates(5)
    for number in (4, 1, 2):
        opens[number]()
    ray.wait(ids, num_returns=3)
    for order in itertools.permutations(ids, 5):
        if order[0] not in ids[:2]:
            continue
        for count in (1, 2, 3):
            ready, remaining = ray.wait(list(order), num_returns=count)
            assert isinstance(ready, list)
            assert isinstance(remaining, list)
            assert ready == [each for each in order if each in (ids[1], ids[2], ids[4])][:count]
            assert remaining == [each for each in order if each not in ready]
    opens[0]()
    opens[3]()


@pytest.mark.statement("wait-call-06")
def test_failed_tasks_are_ready_and_so_are_puts() -> None:
    @ray.remote
    def fails() -> None:
        raise ValueError

    ids = [fails.remote(), ray.put(1)]
    assert ray.wait(ids, num_returns=2, timeout=10_000) == (ids, [])


@pytest.mark.statement("wait-call-01", "more-wait-06")
def test_signature() -> None:
    parameters = inspect.signature(ray.wait).parameters
    defaults = {name: each.default for name, each in parameters.items()}
    assert list(parameters)[:4] == ["object_ids", "num_returns", "timeout", "worker"]
    assert defaults["num_returns"] == 1
    assert defaults["timeout"] is None
    object_id = ray.put(1)
    assert ray.wait([object_id], 1, 1000, ray.worker.global_worker) == ([object_id], [])
    assert ray.wait([object_id], worker=ray.worker.global_worker) == ([object_id], [])


@pytest.mark.statement("wait-call-08", "wait-call-09", "more-wait-01")
def test_ids_must_be_unique() -> None:
    object_id = ray.put(1)
    with pytest.raises(errors.ArgumentError, match=r"unique|duplicate|twice|once"):
        ray.wait([object_id, ray.put(2), object_id])


@pytest.mark.statement("more-wait-03", "wait-11")
def test_more_than_there_are(gates: Callable[[int], Any]) -> None:
    ids, opens = gates(2)
    opens[0]()
    ray.wait(ids)
    assert ray.wait(ids, num_returns=5, timeout=50) == ([ids[0]], [ids[1]])
    opens[1]()
    assert ray.wait(ids, num_returns=5) == (ids, [])


@pytest.mark.statement("more-wait-04")
def test_nothing_to_wait_for() -> None:
    assert ray.wait([]) == ([], [])
    assert ray.wait([], num_returns=3, timeout=1000) == ([], [])


@pytest.mark.statement("more-wait-05")
def test_units() -> None:
    ids = [ray.put(1)]
    assert ray.wait(ids, timeout=datetime.timedelta(seconds=1)) == (ids, [])
    assert ray.get(ids[0], timeout=datetime.timedelta(milliseconds=100)) == 1
    with pytest.raises(errors.ArgumentTypeError, match="timedelta"):
        ray.wait(ids, timeout=2.5)
    with pytest.raises(errors.ArgumentTypeError, match="timedelta"):
        ray.get(ids, timeout=0.5)


@pytest.mark.statement("more-wait-07")
@pytest.mark.parametrize(
    ("ids", "options"),
    [(1, {}), ("abc", {}), (None, {}), ([1], {}), ([None], {})],
    ids=repr,
)
def test_what_can_not_be_waited_for(ids: Any, options: dict[str, Any]) -> None:
    with pytest.raises(errors.ArgumentTypeError, match=r"ray\.wait"):
        ray.wait(ids, **options)


@pytest.mark.statement("more-wait-07")
def test_a_single_id_or_senseless_numbers() -> None:
    object_id = ray.put(1)
    with pytest.raises(errors.ArgumentTypeError, match="list"):
        ray.wait(object_id)
    for number in (0, -1):
        with pytest.raises(errors.ArgumentError, match="num_returns"):
            ray.wait([object_id], num_returns=number)
    with pytest.raises(errors.ArgumentTypeError, match="num_returns"):
        ray.wait([object_id], num_returns="1")
    with pytest.raises(errors.ArgumentError, match="timeout"):
        ray.wait([object_id], timeout=-5)


@pytest.mark.statement("wait-02")
def test_many_ids_cost_no_square() -> None:
    """Two thousand ids taken one by one; each wait sees those that are left."""
    remaining = [ray.put(number) for number in range(2000)]
    taken = 0
    while remaining:
        ready, remaining = ray.wait(remaining)
        taken += len(ready)
    assert taken == 2000
