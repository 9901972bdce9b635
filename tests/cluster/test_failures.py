"""What a driver reads of processes that died on other nodes."""

import os
import signal

import pytest

import ray
from ray.errors import ActorDiedError, WorkerCrashedError
from ray.testing import LocalCluster, LocalNode
from tests.api.programs import wait_for
from tests.cluster.events import PATIENCE_MS, PATIENCE_S


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
