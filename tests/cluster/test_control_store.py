"""The control store is killed again and again under load, and the whole head once: the cluster goes on."""

import os
import signal
import time
from pathlib import Path

import ray
from ray.control_store.nodes import NodeTable
from ray.session import processes
from ray.testing import LocalCluster, LocalNode
from tests.api.programs import Programs, wait_for
from tests.chaos.attack import times
from tests.cluster.conftest import MakeCluster
from tests.cluster.events import (
    PATIENCE_MS,
    PATIENCE_S,
    deaths,
    log_of_manager,
    manager_of,
    wait_until_spread,
)

KILLS = times(100, 6)
REJOINED_S = 10.0
AT_ONCE = {"restart_limit": 1_000_000, "restart_pause_ms": 0}  # the keeper's patience is tested elsewhere
FENCED = "does nothing for others any more"
# A driver of another node, that works as long as the file "go" is there, also where the custom resource is.
DRIVER = """
import os, sys, time
import ray

ray.init(redis_address=sys.argv[1], node_ip_address=sys.argv[2])

@ray.remote
def square(number):
    time.sleep(0.01)
    return number * number

count = 0
print("begun", flush=True)
while os.path.exists(sys.argv[3]):
    numbers = range(count, count + 20)
    assert ray.get([square.remote(number) for number in numbers]) == [number**2 for number in numbers]
    assert ray.get(square.options(num_custom_resource=1).remote(count)) == count**2
    count += 20
print("done", flush=True)
"""


@ray.remote
def square(number: int) -> int:
    time.sleep(0.01)
    return number * number


@ray.remote
def fails(number: int) -> None:
    raise ValueError(f"number {number}")


def control_store_of(node: LocalNode) -> int | None:
    for pid in processes.descendants(node.keeper.pid):
        if "valkey" in processes.name(pid) or "redis" in processes.name(pid):
            return pid
    return None


def nodes_of_table(cluster: LocalCluster) -> dict[str, str]:
    """What the control store says of each node: why it is dead, or ""."""
    import asyncio

    record = cluster.head.record

    async def read() -> dict[str, str]:
        table = NodeTable(record.control_store[0], record.redis_password)
        try:
            return {node.hex(): entry.dead for node, entry in (await table.read()).items()}
        finally:
            await table.close()

    return asyncio.run(read())


def test_the_control_store_killed_under_load(make_cluster: MakeCluster) -> None:
    """No result is lost, no failure unlisted, no node dead; and the table of nodes is made anew."""
    cluster = make_cluster(3, config=AT_ONCE)
    wait_until_spread(cluster.nodes)
    failed = 0
    for turn in range(KILLS):
        results = [square.remote(number) for number in range(60)]
        failing = [fails.remote(turn * 3 + number) for number in range(3)]
        pid = control_store_of(cluster.head)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert ray.get(results, timeout=PATIENCE_MS) == [number**2 for number in range(60)]
        ray.wait(failing, num_returns=len(failing), timeout=PATIENCE_MS)
        failed += len(failing)

        def is_back(killed: int = pid) -> bool | None:
            return control_store_of(cluster.head) not in (None, killed) or None

        assert wait_for(is_back, PATIENCE_S)

    def listed() -> bool | None:
        return len(ray.error_info()) == failed or None

    assert wait_for(listed, PATIENCE_S), f"{len(ray.error_info())} of {failed}"
    ids = {node.node_id for node in cluster.nodes}
    assert wait_for(lambda: nodes_of_table(cluster) == dict.fromkeys(ids, "") or None, PATIENCE_S)
    assert deaths(cluster) == []
    assert not any(FENCED in log_of_manager(node) for node in cluster.nodes)


def test_a_control_store_that_is_away_for_long(make_cluster: MakeCluster) -> None:
    """Stopped, so that nobody starts another. A node killed meanwhile is dead as soon as it is back."""
    cluster = make_cluster(3)
    wait_until_spread(cluster.nodes)
    pid = control_store_of(cluster.head)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        said = "the control store does not answer"
        assert wait_for(lambda: said in log_of_manager(cluster.head) or None, PATIENCE_S)
        cluster.kill_node(cluster.nodes[2])
        results = [square.remote(number) for number in range(40)]
        ray.wait(results, num_returns=10, timeout=PATIENCE_MS)
        assert deaths(cluster) == []
    finally:
        os.kill(pid, signal.SIGCONT)
    assert ray.get(results, timeout=2 * PATIENCE_MS) == [number**2 for number in range(40)]
    assert wait_for(lambda: deaths(cluster) or None, PATIENCE_S)
    assert not any(FENCED in log_of_manager(node) for node in cluster.nodes if node.is_alive)


def test_a_node_that_dies_without_a_head_is_found_by_the_next(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(3)
    wait_until_spread(cluster.nodes)
    pid = manager_of(cluster.head)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    cluster.kill_node(cluster.nodes[2])
    killed_s = time.monotonic()
    assert wait_for(lambda: deaths(cluster) or None, PATIENCE_S)
    assert time.monotonic() - killed_s < 4.0  # of which a new node manager takes up to 1.4
    assert nodes_of_table(cluster)[cluster.nodes[2].node_id]


def test_the_whole_head_killed_and_started_again(tmp_path: Path) -> None:
    """The other nodes join the new one, each in its own time, and who was there before another does not take
    it for dead; a driver at one of them has gone on meanwhile."""
    with LocalCluster(2) as cluster, Programs(tmp_path) as programs:
        cluster.add_node(num_custom_resource=1)
        go = tmp_path / "go"
        go.touch()
        driver = programs.start(DRIVER, cluster.address, cluster.nodes[1].node_ip_address, str(go))
        assert driver.line() == "begun"
        address = cluster.address
        old_head = cluster.head.node_id
        late = manager_of(cluster.nodes[2])
        assert late is not None
        os.kill(late, signal.SIGSTOP)
        try:
            cluster.restart_head()
            restarted_s = time.monotonic()
            assert wait_for(lambda: len(nodes_of_table(cluster)) == 2 or None, PATIENCE_S)
        finally:
            os.kill(late, signal.SIGCONT)
        assert cluster.address == address
        ray.init(redis_address=cluster.address)
        try:
            wait_until_spread(cluster.nodes)
            assert time.monotonic() - restarted_s < REJOINED_S
            go.unlink()
            assert driver.line() == "done"
            assert driver.finish().code == 0
            ids = {node.node_id for node in cluster.nodes}
            assert {node for node, dead in nodes_of_table(cluster).items() if not dead} == ids
            assert nodes_of_table(cluster).keys() - ids <= {old_head}
        finally:
            ray.shutdown()
