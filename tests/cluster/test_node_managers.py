"""Node managers that are killed, and nodes that are: the one is no death of a node, the other is noticed."""

import os
import signal
import time

import pytest

import ray
from ray.testing import LocalNode
from tests.api.programs import wait_for
from tests.chaos.attack import times
from tests.cluster.conftest import MakeCluster
from tests.cluster.events import PATIENCE_MS, PATIENCE_S, deaths, manager_of, wait_until_spread

NOTICED_S = 1.0


def replaced(node: LocalNode, killed: int) -> bool | None:
    found = manager_of(node)
    return (found is not None and found != killed) or None


@ray.remote
def slow_square(number: int) -> int:
    time.sleep(0.01)
    return number * number


def test_a_killed_node_manager_is_no_death(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(2)
    wait_until_spread(cluster.nodes)
    for turn in range(times(8, 3)):
        node = cluster.nodes[turn % 2]
        pid = manager_of(node)
        assert pid is not None
        results = [slow_square.remote(number) for number in range(40)]
        os.kill(pid, signal.SIGKILL)
        assert ray.get(results, timeout=PATIENCE_MS) == [number**2 for number in range(40)]
        assert wait_for(lambda node=node, pid=pid: replaced(node, pid), PATIENCE_S)  # type: ignore[misc]
        wait_until_spread(cluster.nodes)  # links are back
    assert deaths(cluster) == []


@pytest.mark.quiet
def test_a_killed_node_is_noticed_within_a_second_and_its_tasks_run_again(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(3)
    wait_until_spread(cluster.nodes)
    results = [slow_square.remote(number) for number in range(300)]
    ray.wait(results, num_returns=100, timeout=PATIENCE_MS)
    cluster.kill_node(cluster.nodes[1])
    killed_s = time.monotonic()
    assert wait_for(lambda: deaths(cluster) or None, PATIENCE_S)
    assert time.monotonic() - killed_s < NOTICED_S
    assert ray.get(results, timeout=PATIENCE_MS) == [number**2 for number in range(300)]
