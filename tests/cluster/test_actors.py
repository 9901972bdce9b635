"""Actors that are used from other nodes than the one they are on."""

import contextlib
import os
from typing import Any

import numpy as np
import pytest

import ray
from ray.errors import ActorDiedError, ActorKilledError, ActorNodeDiedError, RayTaskError
from ray.testing import LocalCluster
from tests.cluster.conftest import MakeCluster
from tests.cluster.events import PATIENCE_MS

LARGE_BYTES = 4 << 20


@ray.remote
class Log:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def tell(self, what: Any) -> int:
        self.told.append(what)
        return len(self.told)

    def all(self) -> list[Any]:
        return self.told

    def place(self) -> str:
        return os.environ["RAY_SESSION"]

    def array(self, size: int) -> Any:
        return np.arange(size, dtype=np.uint8)

    def total(self, array: Any) -> int:
        return int(array.sum(dtype=np.int64))

    def nothing(self) -> None:
        raise ValueError("of an actor")

    def exit(self) -> None:
        os._exit(3)


@ray.remote(num_custom_resource=1)
def tell_from_there(log: Any, name: str, count: int) -> list[int]:
    return ray.get([log.tell.remote((name, number)) for number in range(count)])


@ray.remote
def tell_from_anywhere(log: Any, name: str, count: int) -> list[int]:
    return ray.get([log.tell.remote((name, number)) for number in range(count)])


@ray.remote(num_custom_resource=1)
def make_there(custom: int = 0) -> list[Any]:
    """A log that stays there only if it needs `custom` resources as well: else it is placed anywhere."""
    log = Log.options(num_custom_resource=custom).remote()
    ray.get(log.tell.remote("made"))  # only calls of one caller have an order
    return [log]


@ray.remote(num_custom_resource=1)
def sums_there(log: Any, array: Any) -> list[int]:
    made = log.array.remote(LARGE_BYTES)
    totals = [log.total.remote(array), log.total.remote(made), log.total.remote(ray.put(array))]
    return [*ray.get(totals), int(ray.get(made).sum(dtype=np.int64))]


@ray.remote(num_custom_resource=1)
def kill_there(log: Any) -> str:
    ray.kill(log)
    try:
        ray.get(log.all.remote())
    except ActorKilledError as error:
        return type(error).__name__
    return "it lives"


def test_calls_from_another_node_run_in_order(joined: LocalCluster) -> None:
    log = Log.remote()
    told = [tell_from_there.remote(log, name, 200) for name in "abc"]
    mine = [log.tell.remote(("mine", number)) for number in range(200)]
    results = ray.get([*told, *mine], timeout=PATIENCE_MS)
    assert all(each == sorted(each) for each in (*results[:3], results[3:]))
    all_told = ray.get(log.all.remote(), timeout=PATIENCE_MS)
    assert len(all_told) == 800
    for name in ("a", "b", "c", "mine"):
        assert [number for told_by, number in all_told if told_by == name] == list(range(200))


def test_an_actor_made_elsewhere(joined: LocalCluster) -> None:
    [log] = ray.get(make_there.remote(), timeout=PATIENCE_MS)
    assert ray.get(log.tell.remote("from here"), timeout=PATIENCE_MS) == 2
    # Its maker's task has the CPU there, so that it may be placed on another node.
    assert ray.get(log.place.remote(), timeout=PATIENCE_MS) in {node.record.token for node in joined.nodes}
    count = 3_000
    results = [log.tell.remote(number) for number in range(count)]
    assert ray.get(results, timeout=PATIENCE_MS) == list(range(3, count + 3))
    assert ray.get(log.all.remote(), timeout=PATIENCE_MS) == ["made", "from here", *range(count)]


def test_large_arguments_and_results(joined: LocalCluster) -> None:
    right = int(np.arange(LARGE_BYTES, dtype=np.uint8).sum(dtype=np.int64))
    array = np.ones(LARGE_BYTES, np.uint8)
    log = Log.remote()
    assert ray.get(sums_there.remote(log, array), timeout=PATIENCE_MS) == [
        LARGE_BYTES,
        right,
        LARGE_BYTES,
        right,
    ]
    [log] = ray.get(make_there.remote(), timeout=PATIENCE_MS)
    made = log.array.remote(LARGE_BYTES)
    assert ray.get(log.total.remote(made), timeout=PATIENCE_MS) == right
    assert int(ray.get(made, timeout=PATIENCE_MS).sum(dtype=np.int64)) == right


def test_failures_of_a_method(joined: LocalCluster) -> None:
    [log] = ray.get(make_there.remote(), timeout=PATIENCE_MS)
    with pytest.raises(RayTaskError, match="of an actor"):
        ray.get(log.nothing.remote(), timeout=PATIENCE_MS)
    assert ray.get(log.tell.remote(1), timeout=PATIENCE_MS) == 2


def test_a_dead_actor_elsewhere(joined: LocalCluster) -> None:
    [log] = ray.get(make_there.remote(), timeout=PATIENCE_MS)
    calls = [log.exit.remote(), *[log.tell.remote(number) for number in range(10)]]
    for call in calls:
        with pytest.raises(ActorDiedError, match="3"):
            ray.get(call, timeout=PATIENCE_MS)
    with pytest.raises(ActorDiedError):
        ray.get(log.tell.remote(1), timeout=PATIENCE_MS)


def test_killed_from_another_node(joined: LocalCluster) -> None:
    log = Log.remote()
    assert ray.get(kill_there.remote(log), timeout=PATIENCE_MS) == "ActorKilledError"
    with pytest.raises(ActorKilledError):
        ray.get(log.all.remote(), timeout=PATIENCE_MS)
    [log] = ray.get(make_there.remote(), timeout=PATIENCE_MS)
    assert ray.get(log.tell.remote(1), timeout=PATIENCE_MS) == 2
    ray.kill(log)
    with pytest.raises(ActorKilledError):
        ray.get(log.all.remote(), timeout=PATIENCE_MS)


def test_an_actor_is_placed_where_alone_it_fits(joined: LocalCluster) -> None:
    log = Log.options(num_custom_resource=1).remote()
    told = [log.tell.remote(number) for number in range(1_000)]
    assert ray.get(told, timeout=PATIENCE_MS) == list(range(1, 1_001))
    assert ray.get(log.place.remote(), timeout=PATIENCE_MS) == joined.nodes[-1].record.token
    right = int(np.arange(LARGE_BYTES, dtype=np.uint8).sum(dtype=np.int64))
    made = log.array.remote(LARGE_BYTES)
    assert ray.get(log.total.remote(made), timeout=PATIENCE_MS) == right
    assert int(ray.get(made, timeout=PATIENCE_MS).sum(dtype=np.int64)) == right
    with pytest.raises(RayTaskError, match="of an actor"):
        ray.get(log.nothing.remote(), timeout=PATIENCE_MS)
    ray.kill(log)
    with pytest.raises(ActorKilledError):
        ray.get(log.all.remote(), timeout=PATIENCE_MS)


def test_calls_from_all_nodes_to_one_that_was_placed(joined: LocalCluster) -> None:
    log = Log.options(num_custom_resource=1).remote()
    names = "abcdef"
    told = [tell_from_anywhere.remote(log, name, 50) for name in names]
    ray.get(told, timeout=PATIENCE_MS)
    all_told = ray.get(log.all.remote(), timeout=PATIENCE_MS)
    for name in names:
        assert [number for told_by, number in all_told if told_by == name] == list(range(50))


def test_what_no_node_can_hold_waits_for_one_that_can(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1)
    log = Log.options(num_custom_resource=1).remote()
    told = log.tell.remote(1)
    assert ray.wait([told], timeout=500)[0] == []
    cluster.add_node(num_custom_resource=1)
    assert ray.get(told, timeout=PATIENCE_MS) == 1


def test_the_node_of_an_actor_dies(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1)
    cluster.add_node(num_custom_resource=2)
    [log] = ray.get(make_there.remote(1), timeout=PATIENCE_MS)
    assert ray.get(log.tell.remote(1), timeout=PATIENCE_MS) == 2
    assert ray.get(log.place.remote(), timeout=PATIENCE_MS) == cluster.nodes[1].record.token
    calls = [log.tell.remote(number) for number in range(10)]
    cluster.kill_node(cluster.nodes[1])
    later = log.tell.remote(1)
    with pytest.raises(ActorNodeDiedError):
        ray.get(later, timeout=PATIENCE_MS)
    for call in calls:
        with contextlib.suppress(ActorNodeDiedError):
            ray.get(call, timeout=PATIENCE_MS)
