"""What a user's program does on a cluster of several nodes."""

import re
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest

import ray
from ray.errors import ObjectLostError, RayTaskError
from ray.testing import LocalCluster
from tests.api.programs import wait_for
from tests.chaos.attack import times
from tests.cluster.conftest import MakeCluster
from tests.cluster.events import PATIENCE_MS, PATIENCE_S, wait_until_spread, where

LARGE_BYTES = 64 << 20
LOST_S = 5.0
SPREAD_S = 1.0  # a burst, over all nodes


@ray.remote
def square(number: int, wait_s: float = 0.0) -> int:
    time.sleep(wait_s)
    return number * number


@ray.remote
def ones(count: int) -> Any:
    return np.ones(count, np.uint8)


@ray.remote
def total(array: Any) -> int:
    return int(array.sum(dtype=np.int64))


@ray.remote(num_custom_resource=1)
def total_there(array: Any) -> int:
    return int(array.sum(dtype=np.int64))


@ray.remote(num_custom_resource=1)
def ones_there(count: int) -> Any:
    return np.ones(count, np.uint8)


@ray.remote(num_custom_resource=1)
def where_there() -> str:
    import os

    return os.environ["RAY_SESSION"]


@ray.remote
def where_it_came(array: Any) -> str:
    import os

    assert array.sum(dtype=np.int64) == LARGE_BYTES
    return os.environ["RAY_SESSION"]


@ray.remote
def begins(wait_s: float) -> tuple[str, float]:
    """Where and when; the clock is the machine's."""
    import os

    begun_s = time.monotonic()
    time.sleep(wait_s)
    return os.environ["RAY_SESSION"], begun_s


@ray.remote
def tree(depth: int) -> int:
    """How many leaves a tree of tasks has."""
    if depth == 0:
        time.sleep(0.01)
        return 1
    return sum(ray.get([tree.remote(depth - 1) for _ in range(3)]))


@ray.remote(num_custom_resource=1)
def put_there(count: int) -> list[Any]:
    return [ray.put(number) for number in range(count)]


@ray.remote(num_custom_resource=1)
def opened_there(boxed: dict[str, Any]) -> list[int]:
    return ray.get(boxed["ids"])


@ray.remote(num_custom_resource=1)
def fails_there() -> None:
    raise ValueError("of a remote node")


def test_tasks_spread_over_three_nodes(joined: LocalCluster) -> None:
    wait_until_spread(joined.nodes)
    places = Counter(ray.get([where.remote(0.02) for _ in range(60)], timeout=PATIENCE_MS))
    assert set(places) == {node.record.token for node in joined.nodes}
    assert min(places.values()) >= 5, places
    numbers = range(300)
    results = [square.remote(number, 0.002) for number in numbers]
    assert ray.get(results, timeout=PATIENCE_MS) == [number**2 for number in numbers]
    # Tasks of tasks go to other nodes as well, from wherever they are submitted.
    assert ray.get(tree.remote(3), timeout=PATIENCE_MS) == 27


def test_a_burst_of_short_tasks(joined: LocalCluster) -> None:
    numbers = range(times(20_000, 2_000))
    results = [square.remote(number) for number in numbers]
    assert ray.get(results, timeout=3 * PATIENCE_MS) == [number**2 for number in numbers]


@pytest.mark.quiet
def test_a_burst_is_everywhere_within_a_second(joined: LocalCluster) -> None:
    wait_until_spread(joined.nodes)
    submitted_s = time.monotonic()
    begun = ray.get([begins.remote(0.1) for _ in range(100)], timeout=PATIENCE_MS)
    first: dict[str, float] = {}
    for place, begun_s in begun:
        first[place] = min(begun_s, first.get(place, begun_s))
    assert first.keys() == {node.record.token for node in joined.nodes}
    assert max(first.values()) - submitted_s < SPREAD_S


def test_large_arrays_go_across(joined: LocalCluster) -> None:
    array = np.ones(LARGE_BYTES, np.uint8)
    assert ray.get(total_there.remote(array), timeout=PATIENCE_MS) == LARGE_BYTES
    stored = ray.put(array)
    assert ray.get(total_there.remote(stored), timeout=PATIENCE_MS) == LARGE_BYTES
    made = ones_there.remote(LARGE_BYTES)
    assert ray.get(total.remote(made), timeout=PATIENCE_MS) == LARGE_BYTES
    assert ray.get(made, timeout=PATIENCE_MS).sum(dtype=np.int64) == LARGE_BYTES


def test_a_task_goes_to_where_its_large_argument_is(joined: LocalCluster) -> None:
    """Else it would run here, where there is room. As free counts what was last reported so."""
    wait_until_spread(joined.nodes)
    there = joined.nodes[-1].record.token

    def follows() -> bool | None:
        made = ones_there.remote(LARGE_BYTES)
        return ray.get(where_it_came.remote(made), timeout=PATIENCE_MS) == there or None

    assert wait_for(follows, PATIENCE_S)


def test_ids_inside_of_values(joined: LocalCluster) -> None:
    ids = ray.get(put_there.remote(10), timeout=PATIENCE_MS)
    assert ray.get(ids, timeout=PATIENCE_MS) == list(range(10))
    boxed = {"ids": [ray.put(number) for number in range(10)]}
    assert ray.get(opened_there.remote(boxed), timeout=PATIENCE_MS) == list(range(10))
    pending = {"ids": [square.remote(number, 0.05) for number in range(4)]}
    assert ray.get(opened_there.remote(pending), timeout=PATIENCE_MS) == [0, 1, 4, 9]


def test_a_task_runs_where_alone_it_fits(joined: LocalCluster) -> None:
    places = ray.get([where_there.remote() for _ in range(10)], timeout=PATIENCE_MS)
    assert set(places) == {joined.nodes[-1].record.token}


def test_an_error_of_a_remote_node(joined: LocalCluster, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RayTaskError, match="of a remote node") as raised:
        ray.get(fails_there.remote(), timeout=PATIENCE_MS)
    assert raised.value.node in {node.node_ip_address for node in joined.nodes[1:]}
    assert f" on {raised.value.node}.\n" in str(raised.value)

    def listed() -> int | None:
        return sum("of a remote node" in str(each) for each in ray.error_info()) or None

    assert wait_for(listed, PATIENCE_S) == 1
    ray.shutdown()  # what is there has been printed then
    assert capfd.readouterr().err.count("ValueError: of a remote node") == 1


def test_what_only_a_dead_node_had_is_lost(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1)
    node = cluster.add_node(num_custom_resource=1)
    [lost] = ray.get(put_there.remote(1), timeout=PATIENCE_MS)
    cluster.kill_node(node)
    killed_s = time.monotonic()
    with pytest.raises(ObjectLostError, match=lost.hex()) as raised:
        ray.get(lost, timeout=PATIENCE_MS)
    assert time.monotonic() - killed_s < LOST_S
    there = f"{node.node_ip_address} ({node.node_id[:8]})"
    assert raised.value.node == there
    assert f"node {there}, which has died" in str(raised.value)
    with pytest.raises(ObjectLostError, match=re.escape(there)):
        ray.get(square.remote(lost), timeout=PATIENCE_MS)
