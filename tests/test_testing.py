"""`ray.testing.LocalCluster`: several nodes on one machine."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

import ray
from ray.errors import ArgumentError, ArgumentTypeError, RayConnectionError
from ray.session import processes
from ray.session.found import find_sessions
from ray.testing import LocalCluster
from tests.api.programs import Programs, wait_for


def test_nodes_are_sessions_of_their_own() -> None:
    with LocalCluster(nodes=3, num_cpus=2) as cluster:
        found = {each.record.node_id: each.record for each in find_sessions()}
        assert {node.node_id for node in cluster.nodes} <= found.keys()
        assert len({node.record.token for node in cluster.nodes}) == 3
        assert len({node.record.link_address for node in cluster.nodes}) == 3
        assert [node.record.head_address for node in cluster.nodes] == [
            "",
            *[cluster.head.record.link_address] * 2,
        ]
        for node in cluster.nodes[1:]:
            names = {processes.name(pid) for pid in processes.descendants(node.keeper.pid)}
            assert "ray-template" in names
            assert not any("redis" in name or "valkey" in name for name in names)
            info = ray.init(redis_address=cluster.address, node_ip_address=node.node_ip_address)
            assert info["redis_address"] == cluster.address
            assert info["node_ip_address"] == node.node_ip_address
            assert ray.get(ray.remote(lambda: os.environ["RAY_SESSION"]).remote()) == node.record.token
            ray.shutdown()
        ray.init(redis_address=cluster.address)
        assert ray.get(ray.remote(lambda: os.environ["RAY_SESSION"]).remote()) == cluster.head.record.token
        ray.shutdown()
    known = {node.node_id for node in cluster.nodes}
    assert not known & {each.record.node_id for each in find_sessions()}
    assert not any(os.path.exists(node.record.logs) for node in cluster.nodes)
    assert not os.path.exists(cluster.head.record.token_file)


def test_a_killed_node_leaves_the_others() -> None:
    with LocalCluster(nodes=2) as cluster:
        killed = cluster.nodes[1]
        cluster.kill_node(killed)
        assert not killed.is_alive
        assert not processes.of_session(killed.record.token)
        with pytest.raises(RayConnectionError, match=r"127\.0\.0\.1, not 127\.0\.0\.2"):
            ray.init(redis_address=cluster.address, node_ip_address=killed.node_ip_address)
        another = cluster.add_node(num_cpus=3)
        assert another.record.num_cpus == 3
        assert another.node_ip_address == "127.0.0.3"
        ray.init(redis_address=cluster.address)
        assert ray.get(ray.remote(lambda: 42).remote()) == 42
        ray.shutdown()


@pytest.mark.parametrize("nodes", [0, 251])
def test_a_number_of_nodes_that_makes_no_sense(nodes: int) -> None:
    with pytest.raises(ArgumentError, match="250"):
        LocalCluster(nodes=nodes)


@pytest.mark.parametrize("nodes", ["3", 2.0, True])
def test_a_number_of_nodes_that_is_none(nodes: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="whole number"):
        LocalCluster(nodes=nodes)


@pytest.mark.parametrize(
    "options", [{"node_ip_address": "127.0.0.9"}, {"redis_address": "127.0.0.1:1"}, {"redirect_output": True}]
)
def test_what_the_cluster_decides_itself_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=f"{next(iter(options))} is decided by the LocalCluster"):
        LocalCluster(**options)


def test_nodes_of_another_cluster_are_left_alone() -> None:
    with LocalCluster(1) as cluster, LocalCluster(1) as other:
        for act in (cluster.kill_node, cluster.stop_node, cluster.drain_node, cluster.partition):
            with pytest.raises(ArgumentError, match="no node of this LocalCluster"):
                act(other.head)
        with pytest.raises(ArgumentTypeError, match="one of its `nodes`"):
            cluster.partition(["127.0.0.1"])  # type: ignore[list-item]
        assert other.head.is_alive
        cluster.partition(cluster.head)
        cluster.kill_node(cluster.head)
        with pytest.raises(ArgumentError, match="restart_head"):
            cluster.add_node()


def test_a_cluster_ends_with_its_maker(tmp_path: Path) -> None:
    with Programs(tmp_path) as programs:
        maker = programs.start(
            """
            import time
            from ray.testing import LocalCluster

            cluster = LocalCluster(nodes=2)
            print(len(cluster.nodes), flush=True)
            time.sleep(1000)
            """
        )
        assert maker.line() == "2"
        maker.send(signal.SIGKILL)
        maker.finish()
        assert wait_for(lambda: not programs.left() or None, 5.0)
