"""What a program is told of its cluster: which nodes there are, and what they have."""

import asyncio
import time
from collections.abc import Iterator

import pytest

import ray
from ray.errors import RayConnectionError
from ray.testing import LocalCluster
from tests.api.programs import wait_for
from tests.cluster.events import PATIENCE_S


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(1, num_cpus=1, num_custom_resource=3) as cluster:
        cluster.add_node(num_cpus=2, num_custom_resource=0)
        cluster.add_node(num_cpus=4, num_custom_resource=5)
        ray.init(redis_address=cluster.address)
        yield cluster
        ray.shutdown()


def addresses() -> list[str]:
    return [node["node_ip_address"] for node in ray.nodes()]


def test_all_nodes_are_listed_the_caller_s_first(cluster: LocalCluster) -> None:
    names = [node.node_ip_address for node in cluster.nodes]
    found = ray.nodes()
    assert found[0]["node_ip_address"] == names[0]
    assert sorted(node["node_ip_address"] for node in found) == sorted(names)
    assert [
        node["resources"]["CPU"] for node in sorted(found, key=lambda node: node["resources"]["CPU"])
    ] == [1, 2, 4]
    assert all(node["alive"] for node in found)
    assert len({node["node_id"] for node in found}) == 3

    there = ray.get(ray.remote(num_cpus=4)(ray.nodes).remote())
    assert there[0]["node_ip_address"] == names[2]
    assert sorted(there, key=lambda node: node["node_id"]) == sorted(found, key=lambda node: node["node_id"])
    assert ray.cluster_resources() == {"CPU": 7.0, "custom_resource": 8.0}

    async def in_a_loop() -> list[str]:
        return addresses()

    assert asyncio.run(in_a_loop()) == addresses()


def test_what_is_free_is_what_no_node_uses(cluster: LocalCluster) -> None:
    everything = ray.cluster_resources()
    assert wait_for(lambda: ray.available_resources() == everything or None, PATIENCE_S)

    @ray.remote(num_cpus=3, num_custom_resource=4)
    def holds() -> None:
        time.sleep(60)

    holds.remote()
    assert wait_for(
        lambda: ray.available_resources() == {"CPU": 4.0, "custom_resource": 4.0} or None, PATIENCE_S
    )


def test_nodes_that_have_gone_are_not_listed(cluster: LocalCluster) -> None:
    gone = cluster.nodes[1]
    cluster.kill_node(gone)
    assert wait_for(lambda: len(addresses()) == 2 or None, PATIENCE_S)
    assert gone.node_ip_address not in addresses()
    assert ray.cluster_resources()["CPU"] == 5


def test_a_head_that_does_not_answer_is_said() -> None:
    with LocalCluster(1, num_cpus=1) as cluster:
        other = cluster.add_node(num_cpus=1)
        ray.init(redis_address=cluster.address, node_ip_address=other.node_ip_address)
        try:
            assert addresses()[0] == other.node_ip_address
            cluster.kill_node(cluster.head)
            with pytest.raises(RayConnectionError):
                ray.nodes()
        finally:
            ray.shutdown()
