"""Links that are cut, both ways or one: who fences itself, who is declared dead, what goes around."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import ray
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

SILENT_DEAD_S = 10.0
AROUND_S = 15.0
FENCED = "does nothing for others any more"
REJOINED = "joins again as a new one"
LARGE_BYTES = 8 << 20
PARTITION_S = times(full=30, short=12)

# A driver at the node that is cut off. It says what it has got, in lines.
DRIVER = """
import os, sys, time, uuid
import ray

ray.init(redis_address=sys.argv[1], node_ip_address=sys.argv[2])

@ray.remote
def stamp(number):
    time.sleep(0.05)
    return number, uuid.uuid4().hex

kept = ray.put(list(range(1000)))
before = [stamp.remote(number) for number in range(100)]
seen = dict(ray.get(before[:40]))
print("begun", flush=True)
while not os.path.exists(sys.argv[3]):
    results = [stamp.remote(number) for number in range(4)]
    assert [number for number, _ in ray.get(results)] == list(range(4))
for number, value in ray.get(before):
    assert seen.setdefault(number, value) == value, "a result was seen twice"
assert sorted(seen) == list(range(100))
assert ray.get(kept) == list(range(1000))
print("done", flush=True)
"""


@ray.remote(num_custom_resource=1)
def there() -> str:
    return os.environ["RAY_SESSION"]


@ray.remote(num_custom_resource=1)
def large_there() -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
    return np.ones(LARGE_BYTES, np.uint8)


@ray.remote
def slow_square(number: int) -> int:
    time.sleep(0.05)
    return number * number


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as running:
        yield running


def until_said(node: LocalNode, text: str, timeout_s: float) -> None:
    assert wait_for(lambda: text in log_of_manager(node) or None, timeout_s), log_of_manager(node)


def test_a_node_cut_off_fences_itself_and_joins_again(make_cluster: MakeCluster, programs: Programs) -> None:
    """Its own driver notices nothing but slower work; tasks that it had of others run again, there."""
    cluster = make_cluster(3)
    cut_off = cluster.nodes[2]
    wait_until_spread(cluster.nodes)
    healed = programs.folder / "healed"
    driver = programs.start(DRIVER, cluster.address, cut_off.node_ip_address, str(healed))
    assert driver.line() == "begun"
    results = [slow_square.remote(number) for number in range(100)]
    ray.wait(results, num_returns=20, timeout=PATIENCE_MS)
    cluster.partition(cut_off)
    cut_s = time.monotonic()
    until_said(cut_off, FENCED, SILENT_DEAD_S)
    assert deaths(cluster) == [], [(node.node_id[:8], log_of_manager(node)) for node in cluster.nodes]
    assert wait_for(lambda: deaths(cluster) or None, SILENT_DEAD_S)
    assert time.monotonic() - cut_s < SILENT_DEAD_S
    assert ray.get(results, timeout=PATIENCE_MS) == [number**2 for number in range(100)]
    time.sleep(max(0.0, cut_s + PARTITION_S - time.monotonic()))  # so long is the partition
    assert REJOINED not in log_of_manager(cut_off)
    cluster.heal()
    until_said(cut_off, REJOINED, PATIENCE_S)
    healed.touch()
    wait_until_spread(cluster.nodes)
    assert driver.line(PATIENCE_S) == "done"
    assert driver.finish().code == 0
    assert len(deaths(cluster)) == 1


@pytest.mark.parametrize("one_way", [False, True])
def test_two_that_do_not_reach_each_other_go_around(make_cluster: MakeCluster, one_way: bool) -> None:
    """By way of the third node: tasks, small results and large ones; and nobody is dead."""
    cluster = make_cluster(2)
    other = cluster.add_node(num_custom_resource=1)
    wait_until_spread(cluster.nodes)
    stored = large_there.remote()
    ray.wait([stored], timeout=PATIENCE_MS)
    cluster.partition(cluster.head, other, one_way=one_way)
    result = there.remote()
    assert ray.get(result, timeout=int(1000 * AROUND_S)) == other.record.token
    assert ray.get(stored, timeout=PATIENCE_MS).sum(dtype=np.int64) == LARGE_BYTES
    cluster.heal()
    assert ray.get(there.remote(), timeout=PATIENCE_MS) == other.record.token
    assert deaths(cluster) == [], [(node.node_id[:8], log_of_manager(node)) for node in cluster.nodes]
    assert FENCED not in log_of_manager(other)


def test_a_stopped_node_manager_is_dead_after_ten_seconds_only(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(2)
    node = cluster.nodes[1]
    wait_until_spread(cluster.nodes)
    pid = manager_of(node)
    assert pid is not None
    _stop_for(pid, 4.0)
    wait_until_spread(cluster.nodes)
    assert deaths(cluster) == []
    os.kill(pid, signal.SIGSTOP)
    stopped_s = time.monotonic()
    try:
        assert wait_for(lambda: deaths(cluster) or None, SILENT_DEAD_S)
        assert time.monotonic() - stopped_s < SILENT_DEAD_S
    finally:
        os.kill(pid, signal.SIGCONT)
    until_said(node, REJOINED, PATIENCE_S)
    wait_until_spread(cluster.nodes)


def test_a_head_that_was_stopped_declares_nobody_dead(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(3)
    wait_until_spread(cluster.nodes)
    pid = manager_of(cluster.head)
    assert pid is not None
    _stop_for(pid, 12.0)
    wait_until_spread(cluster.nodes)
    assert deaths(cluster) == []
    assert not any(REJOINED in log_of_manager(node) for node in cluster.nodes)


def _stop_for(pid: int, stopped_s: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    time.sleep(stopped_s)  # that is the strike
    os.kill(pid, signal.SIGCONT)


def test_a_partition_is_undone_and_adds_up() -> None:
    with LocalCluster(3) as cluster:
        head, one, other = cluster.nodes
        cluster.partition(one, other)
        cluster.partition([head], one, one_way=True)
        assert cluster._cut == {(one, other), (other, one), (head, one)}
        cluster.heal()
        ray.init(redis_address=cluster.address)
        wait_until_spread(cluster.nodes)
        ray.shutdown()
