"""What a driver reads of processes that died on other nodes, and what of their values it keeps."""

import os
import signal
from typing import Any

import numpy as np
import pytest

import ray
from ray.errors import ActorDiedError, ObjectLostError, WorkerCrashedError
from ray.testing import LocalCluster, LocalNode
from tests.api.programs import wait_for
from tests.cluster.conftest import MakeCluster
from tests.cluster.events import PATIENCE_MS, PATIENCE_S, deaths

LOST_WITHIN_MS = 5_000  # after its node was killed


@ray.remote(num_custom_resource=1, max_retries=0)
def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@ray.remote(num_custom_resource=1)
class Mortal:
    def dies(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def label(node: LocalNode) -> str:
    return f"{node.node_ip_address} ({node.record.node_id[:8]})"


def test_a_crash_elsewhere_names_the_node(joined: LocalCluster) -> None:
    there = label(joined.nodes[2])
    with pytest.raises(WorkerCrashedError, match=r"its worker process \d+ on node ") as crashed:
        ray.get(dies.remote(), timeout=PATIENCE_MS)
    assert crashed.value.node == there

    def listed() -> str | None:
        found = [error for error in ray.error_info() if error["type"] == "worker_died"]
        return found[0]["message"] if found else None

    assert f" on node {there} " in str(wait_for(listed, PATIENCE_S))


def test_an_actor_that_died_elsewhere_names_the_node(joined: LocalCluster) -> None:
    mortal = Mortal.remote()
    for call in [mortal.dies.remote(), mortal.dies.remote()]:
        with pytest.raises(ActorDiedError, match=r"the actor's process \d+ on node ") as died:
            ray.get(call, timeout=PATIENCE_MS)
        assert died.value.node == label(joined.nodes[2])


def test_a_crash_on_the_drivers_own_node_names_none(joined: LocalCluster) -> None:
    with pytest.raises(WorkerCrashedError, match=r"its worker process \d+ was killed") as crashed:
        ray.get(dies.options(num_custom_resource=0, num_cpus=0).remote(), timeout=PATIENCE_MS)
    assert crashed.value.node == ""


@ray.remote(num_gpus=1, num_cpus=0)
class Owner:
    def __init__(self) -> None:
        self.kept: list[Any] = []

    def puts(self, size: int) -> list[Any]:
        self.kept.append(ray.put(np.ones(size, np.uint8)))
        return self.kept[-1:]


@ray.remote(num_custom_resource=1, num_cpus=0)
class Reader:
    """Has a copy on its node, and the id."""

    def first(self, ids: list[Any], value: Any) -> int:
        self.ids = ids
        return int(value.sum())

    def gets(self, ids: list[Any]) -> int:
        self.ids = ids
        return self.again()

    def again(self) -> int:
        return int(ray.get(self.ids[0]).sum())


@pytest.mark.parametrize("size", [100, 4 << 20], ids=["small", "large"])
def test_a_value_of_a_dead_node_stays_where_there_is_a_copy(make_cluster: MakeCluster, size: int) -> None:
    """Its owner has died, and the driver, an actor on a third node and a new task read it all the same."""
    cluster = make_cluster(1)
    dying = cluster.add_node(num_gpus=1)
    cluster.add_node(num_custom_resource=1)
    owner, reader = Owner.remote(), Reader.remote()
    [mine] = ray.get(owner.puts.remote(size), timeout=PATIENCE_MS)
    assert ray.get(mine, timeout=PATIENCE_MS).sum() == size
    [theirs] = ray.get(owner.puts.remote(size), timeout=PATIENCE_MS)
    assert ray.get(reader.first.remote([theirs], theirs), timeout=PATIENCE_MS) == size
    cluster.kill_node(dying)
    assert wait_for(lambda: deaths(cluster) or None, PATIENCE_S)
    assert ray.get(mine, timeout=PATIENCE_MS).sum() == size
    assert ray.get(reader.again.remote(), timeout=PATIENCE_MS) == size
    assert ray.get(reader.first.remote([], mine), timeout=PATIENCE_MS) == size


@pytest.mark.parametrize("size", [100, 4 << 20], ids=["small", "large"])
def test_a_value_of_a_dead_node_is_had_from_another_that_has_a_copy(
    make_cluster: MakeCluster, size: int
) -> None:
    """The driver's node has ids only: of a value that a third node has read, and of one that nobody has."""
    cluster = make_cluster(1)
    dying = cluster.add_node(num_gpus=1)
    cluster.add_node(num_custom_resource=1)
    owner, reader = Owner.remote(), Reader.remote()
    [read] = ray.get(owner.puts.remote(size), timeout=PATIENCE_MS)
    [unread] = ray.get(owner.puts.remote(size), timeout=PATIENCE_MS)
    assert ray.get(reader.gets.remote([read]), timeout=PATIENCE_MS) == size
    cluster.kill_node(dying)
    with pytest.raises(ObjectLostError, match=unread.hex()) as lost:
        ray.get(unread, timeout=LOST_WITHIN_MS)
    assert lost.value.node == label(dying)
    assert ray.get(read, timeout=PATIENCE_MS).sum() == size
