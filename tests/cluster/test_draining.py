"""Nodes that leave in good order: nothing is lost with them, and nothing is done twice."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ray
from ray.errors import ArgumentError, RayConnectionError, SessionEndedError
from ray.testing import LocalCluster, LocalNode
from tests.api.programs import wait_for
from tests.chaos.attack import times
from tests.cluster.conftest import MakeCluster
from tests.cluster.events import (
    PATIENCE_MS,
    PATIENCE_S,
    deaths,
    log_of_manager,
    manager_of,
    wait_until_spread,
    where,
)

LARGE_BYTES = 4 << 20


@ray.remote
def counted(folder: str, number: int, wait_s: float) -> int:
    """Leaves a line of its own for each time it is begun."""
    with open(os.path.join(folder, str(number)), "a") as file:
        file.write("begun\n")
    time.sleep(wait_s)
    return number * number


@ray.remote
def boxes(folder: str, number: int) -> tuple[list[Any], Any, Any]:
    """Tasks that it has begun, a large value, and an id in a value: of whatever node it ran on."""
    begun = [counted.remote(folder, 10 * number + digit, 0.005) for digit in range(3)]
    return begun, ray.put(np.full(LARGE_BYTES // 10, number % 250, np.uint8)), ray.put([ray.put(number)])


@ray.remote(num_custom_resource=1)
def large_there(fill: int) -> Any:
    return np.full(LARGE_BYTES, fill, np.uint8)


@ray.remote(num_custom_resource=1)
def put_there() -> list[Any]:
    """Of a small value, of a large one, and of one that holds another."""
    inner = ray.put("inside")
    return [ray.put(1), ray.put(np.ones(LARGE_BYTES, np.uint8)), ray.put([inner])]


@ray.remote(num_custom_resource=1)
def slow_there(mark: str, wait_s: float) -> str:
    open(mark, "w").close()
    time.sleep(wait_s)
    return "done"


@ray.remote(num_custom_resource=1, max_retries=1)
def slower_than_its_node(mark: str, wait_s: float) -> str:
    with open(mark, "a") as file:
        file.write("x")
    time.sleep(0.0 if os.path.getsize(mark) > 1 else wait_s)
    return "done"


def begin_draining(node: LocalNode) -> None:
    os.kill(node.keeper.pid, signal.SIGTERM)


def has_ended(node: LocalNode) -> bool | None:
    return node.keeper.wait(0.0) or None


def left(cluster: LocalCluster) -> int:
    return log_of_manager(cluster.head).count(" has left.")


def test_no_task_is_lost_or_run_twice(make_cluster: MakeCluster, tmp_path: Path) -> None:
    cluster = make_cluster(3)
    wait_until_spread(cluster.nodes)
    results = [counted.remote(str(tmp_path), number, 0.01) for number in range(400)]
    ray.wait(results, num_returns=100, timeout=PATIENCE_MS)
    cluster.drain_node(cluster.nodes[1])
    assert ray.get(results, timeout=PATIENCE_MS) == [number**2 for number in range(400)]
    assert [len((tmp_path / str(number)).read_text().split()) for number in range(400)] == [1] * 400
    assert deaths(cluster) == []
    assert left(cluster) == 1
    wait_until_spread([cluster.nodes[0], cluster.nodes[2]])


def test_nodes_come_and_go_under_load(make_cluster: MakeCluster, tmp_path: Path) -> None:
    cluster = make_cluster(3, object_store_memory=128 << 20)
    rounds = times(12, 3)
    for turn in range(rounds):
        wait_until_spread([node for node in cluster.nodes if node.is_alive])
        numbers = range(60 * turn, 60 * turn + 60)
        results = [boxes.remote(str(tmp_path), number) for number in numbers]
        ray.wait(results, num_returns=5 * turn + 1, timeout=PATIENCE_MS)  # each time a little later
        cluster.drain_node(next(node for node in cluster.nodes[1:] if node.is_alive))
        for number, (begun, large, boxed) in zip(numbers, ray.get(results, timeout=PATIENCE_MS), strict=True):
            assert ray.get(begun, timeout=PATIENCE_MS) == [(10 * number + digit) ** 2 for digit in range(3)]
            assert int(ray.get(large, timeout=PATIENCE_MS)[-1]) == number % 250
            assert ray.get(ray.get(boxed, timeout=PATIENCE_MS)[0], timeout=PATIENCE_MS) == number
        cluster.add_node()
    begun_once = [path.read_text().count("begun") == 1 for path in tmp_path.iterdir()]
    assert begun_once == [True] * (180 * rounds)
    assert deaths(cluster) == []
    assert left(cluster) == rounds


def test_what_others_have_of_it_is_handed_over(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1)
    node = cluster.add_node(num_custom_resource=1)
    stored = [large_there.remote(fill) for fill in range(3)]  # stay where they were made
    ray.wait(stored, num_returns=3, timeout=PATIENCE_MS)
    small, large, boxed = ray.get(put_there.remote(), timeout=PATIENCE_MS)
    cluster.drain_node(node)
    assert [int(each[0]) for each in ray.get(stored, timeout=PATIENCE_MS)] == [0, 1, 2]
    assert ray.get(small, timeout=PATIENCE_MS) == 1
    assert ray.get(large, timeout=PATIENCE_MS).sum(dtype=np.int64) == LARGE_BYTES
    assert ray.get(ray.get(boxed, timeout=PATIENCE_MS)[0], timeout=PATIENCE_MS) == "inside"
    assert left(cluster) == 1


def test_it_finishes_what_it_has_begun_and_takes_nothing_more(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster(1)
    node = cluster.add_node(num_custom_resource=1)
    mark = str(tmp_path / "mark")
    slow = slow_there.remote(mark, 1.0)
    assert wait_for(lambda: os.path.exists(mark) or None, PATIENCE_S)
    begin_draining(node)
    assert wait_for(lambda: "is being drained" in log_of_manager(node) or None, PATIENCE_S)
    here = set(ray.get([where.remote() for _ in range(50)], timeout=PATIENCE_MS))
    assert here == {cluster.head.record.token}
    assert ray.get(slow, timeout=PATIENCE_MS) == "done"
    assert wait_for(lambda: has_ended(node), PATIENCE_S)
    assert deaths(cluster) == []


def test_when_its_time_is_over_it_leaves_all_the_same(make_cluster: MakeCluster, tmp_path: Path) -> None:
    cluster = make_cluster(1)
    node = cluster.add_node(num_custom_resource=1, config={"drain_ms": 500})
    mark = str(tmp_path / "mark")
    again = slower_than_its_node.remote(mark, 60.0)
    assert wait_for(lambda: os.path.exists(mark) or None, PATIENCE_S)
    began_s = time.monotonic()
    begin_draining(node)
    assert wait_for(lambda: has_ended(node), PATIENCE_S)
    assert 0.4 < time.monotonic() - began_s < 5.0
    assert "leaves with 1 tasks" in log_of_manager(node)
    cluster.add_node(num_custom_resource=1)
    assert ray.get(again, timeout=PATIENCE_MS) == "done"  # where a node joins that can


def test_a_new_node_manager_goes_on_with_it(make_cluster: MakeCluster, tmp_path: Path) -> None:
    cluster = make_cluster(1)
    node = cluster.add_node(num_custom_resource=1)
    mark = str(tmp_path / "mark")
    slow = slow_there.remote(mark, 2.0)
    assert wait_for(lambda: os.path.exists(mark) or None, PATIENCE_S)
    begin_draining(node)
    assert wait_for(lambda: "is being drained" in log_of_manager(node) or None, PATIENCE_S)
    pid = manager_of(node)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert ray.get(slow, timeout=PATIENCE_MS) == "done"
    assert wait_for(lambda: has_ended(node), PATIENCE_S)
    assert left(cluster) == 1


def test_drivers_on_it_are_told_and_others_are_sent_elsewhere(
    make_cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster = make_cluster(1)
    node = cluster.add_node(config={"drain_ms": 1_500})
    ray.shutdown()
    ray.init(redis_address=cluster.address, node_ip_address=node.node_ip_address)
    pending = where.remote(60.0)
    begin_draining(node)
    said: list[str] = []

    def told() -> bool | None:
        said.append(capfd.readouterr().err)
        return "is being drained" in "".join(said) or None

    assert wait_for(told, PATIENCE_S)
    with pytest.raises(SessionEndedError, match="drained"):
        ray.get(pending, timeout=PATIENCE_MS)
    ray.shutdown()
    with pytest.raises(RayConnectionError):
        ray.init(redis_address=cluster.address, node_ip_address=node.node_ip_address)
    ray.init(redis_address=cluster.address)


def test_a_head_does_not_leave() -> None:
    with LocalCluster(1) as cluster, pytest.raises(ArgumentError, match="head"):
        cluster.drain_node(cluster.head)


def test_it_does_not_wait_for_a_head_that_has_ended(make_cluster: MakeCluster) -> None:
    """The driver has values of the node's, and is gone with its own: nobody is there to take them."""
    cluster = make_cluster(1)
    node = cluster.add_node(num_custom_resource=1)
    held = ray.get(put_there.remote(), timeout=PATIENCE_MS)
    assert len(held) == 3
    ray.shutdown()
    cluster.kill_node(cluster.head)
    began_s = time.monotonic()
    begin_draining(node)
    assert wait_for(lambda: has_ended(node), PATIENCE_S)
    assert time.monotonic() - began_s < 10.0
    assert "is drained" in log_of_manager(node)
