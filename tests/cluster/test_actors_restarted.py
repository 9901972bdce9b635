"""Actors with checkpoints whose node dies, or is cut off: they go on elsewhere with the right state."""

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ray
from ray.testing import LocalCluster, LocalNode
from tests.api.programs import wait_for
from tests.cluster.conftest import MakeCluster
from tests.cluster.events import PATIENCE_MS, PATIENCE_S, deaths

LARGE_BYTES = 4 << 20
INTERVAL = 10
LOST_CALLS = 600  # that may be under way at once, and have been executed or not


class Sum:
    """Each call gives the sum so far; `log`, outside of all nodes, has a line for each that was executed."""

    def __init__(self, log: str, ballast_bytes: int = 0) -> None:
        self.log = log
        self.total = 0
        self.ballast = np.ones(ballast_bytes, np.uint8)

    def add(self, by: int) -> int:
        self.total += by
        with open(self.log, "a") as file:
            file.write(f"{by}\n")
        return self.total

    def weight(self) -> int:
        return int(self.ballast.sum(dtype=np.int64))

    def place(self) -> tuple[str, int]:
        return os.environ["RAY_SESSION"], os.getpid()


@ray.remote(num_custom_resource=1)
class Guard:
    """Holds what another would take."""

    def ready(self) -> bool:
        return True


@ray.remote
def add_ones(actor: Any, count: int) -> list[int]:
    return [ray.get(actor.add.remote(1)) for _ in range(count)]


def made_elsewhere(
    cluster: LocalCluster, log: Path, ballast_bytes: int = 0, spare: bool = True
) -> tuple[Any, LocalNode]:
    """An actor of this driver's that a new node serves; with `spare`, its owner could as well."""
    guard = Guard.remote() if spare else None
    if guard is not None:
        assert ray.get(guard.ready.remote(), timeout=PATIENCE_MS)
    node = cluster.add_node(num_custom_resource=2)
    made = ray.remote(checkpoint_interval=INTERVAL, num_custom_resource=1)(Sum)
    actor = made.remote(str(log), ballast_bytes)
    assert place(actor) == node.record.token
    if guard is not None:
        ray.kill(guard)
    return actor, node


def place(actor: Any) -> str:
    session: str = ray.get(actor.place.remote(), timeout=PATIENCE_MS)[0]
    return session


def executed(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()]


@pytest.mark.parametrize("ballast_bytes", [0, LARGE_BYTES])
def test_it_goes_on_when_its_node_is_killed(
    make_cluster: MakeCluster, tmp_path: Path, ballast_bytes: int
) -> None:
    log = tmp_path / "log"
    cluster = make_cluster(1, num_custom_resource=1)
    actor, node = made_elsewhere(cluster, log, ballast_bytes)
    results = [actor.add.remote(1) for _ in range(500)]
    theirs = [add_ones.remote(actor, 20) for _ in range(2)]
    ray.get(results[100], timeout=PATIENCE_MS)
    killer = threading.Thread(target=cluster.kill_node, args=(node,))
    killer.start()
    results += [actor.add.remote(1) for _ in range(500)]
    sums = ray.get(results, timeout=3 * PATIENCE_MS)
    killer.join()
    assert place(actor) == cluster.head.record.token
    assert sums == sorted(set(sums))
    told = ray.get(theirs, timeout=PATIENCE_MS)
    assert not set(sums) & {each for one in told for each in one}
    # A task that has died there has made some of its calls, and then all of them once more.
    total = ray.get(actor.add.remote(0), timeout=PATIENCE_MS)
    assert len(sums) + 40 <= total <= len(sums) + 80
    assert ray.get(actor.weight.remote(), timeout=PATIENCE_MS) == ballast_bytes
    # Executed twice were those since the last checkpoint that had come here, and those whose results had not.
    assert len(executed(log)) - 1 <= total + LOST_CALLS


def test_it_goes_on_where_alone_it_fits_and_loses_nothing_when_its_node_dies_twice(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    cluster = make_cluster(1)
    actor, node = made_elsewhere(cluster, log, spare=False)
    results = [actor.add.remote(1) for _ in range(25)]
    ray.get(results, timeout=PATIENCE_MS)
    cluster.kill_node(node)
    results += [actor.add.remote(1) for _ in range(25)]  # which wait for a node that can
    assert ray.wait(results[-1:], timeout=1_000)[0] == []
    second = cluster.add_node(num_custom_resource=1)
    third = cluster.add_node(num_custom_resource=1)
    assert ray.get(results, timeout=3 * PATIENCE_MS) == list(range(1, 51))
    at = place(actor)
    assert at in (second.record.token, third.record.token)
    results += [actor.add.remote(1) for _ in range(25)]
    cluster.kill_node(second if at == second.record.token else third)
    results += [actor.add.remote(1) for _ in range(25)]
    assert ray.get(results, timeout=3 * PATIENCE_MS) == list(range(1, 101))
    assert place(actor) in (second.record.token, third.record.token)


def test_a_node_cut_off_ends_its_copy_and_the_actor_stays_where_it_is(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """What the copy does after the cut nobody sees."""
    log = tmp_path / "log"
    cluster = make_cluster(1, num_custom_resource=1)
    actor, node = made_elsewhere(cluster, log)
    results = [actor.add.remote(1) for _ in range(25)]
    ray.get(results, timeout=PATIENCE_MS)
    _, pid = ray.get(actor.place.remote(), timeout=PATIENCE_MS)
    cluster.partition(node)
    results += [actor.add.remote(1) for _ in range(25)]
    assert ray.get(results, timeout=3 * PATIENCE_MS) == list(range(1, 51))
    assert place(actor) == cluster.head.record.token
    cluster.heal()
    assert wait_for(lambda: not os.path.exists(f"/proc/{pid}") or None, 2 * PATIENCE_S)
    results += [actor.add.remote(1) for _ in range(25)]
    assert ray.get(results, timeout=PATIENCE_MS) == list(range(1, 76))
    assert place(actor) == cluster.head.record.token
    assert len(deaths(cluster)) == 1


def test_a_node_that_is_drained_hands_it_over_and_nothing_is_run_twice(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    cluster = make_cluster(1)
    actor, node = made_elsewhere(cluster, log, LARGE_BYTES, spare=False)
    other = cluster.add_node(num_custom_resource=1)
    theirs = [add_ones.remote(actor, 20) for _ in range(3)]
    results = [actor.add.remote(1) for _ in range(300)]
    ray.get(results[50], timeout=PATIENCE_MS)
    drainer = threading.Thread(target=cluster.drain_node, args=(node,))
    drainer.start()
    results += [actor.add.remote(1) for _ in range(300)]
    sums = ray.get(results, timeout=3 * PATIENCE_MS)
    told = ray.get(theirs, timeout=PATIENCE_MS)
    drainer.join()
    assert place(actor) == other.record.token
    assert sorted([*sums, *(each for one in told for each in one)]) == list(range(1, len(sums) + 61))
    assert sums == sorted(sums)
    assert ray.get(actor.weight.remote(), timeout=PATIENCE_MS) == LARGE_BYTES
    assert len(executed(log)) == len(sums) + 60


@ray.remote(num_custom_resource=1)
def pass_on_and_wait(box: list[Any]) -> int:
    """Uses a handle that came inside, on the node that alone can hold the actor."""
    return int(ray.get(box[0].add.remote(7)))


@pytest.mark.parametrize("interval", [None, INTERVAL])
def test_an_actor_fits_only_where_its_first_caller_waits(
    make_cluster: MakeCluster, tmp_path: Path, interval: int | None
) -> None:
    cluster = make_cluster(1)
    options = {} if interval is None else {"checkpoint_interval": interval}
    actor = ray.remote(num_custom_resource=1, **options)(Sum).remote(str(tmp_path / "log"))
    waits = pass_on_and_wait.remote([actor])
    node = cluster.add_node(num_custom_resource=2)
    assert ray.get(waits, timeout=PATIENCE_MS) == 7
    assert ray.get(actor.add.remote(1), timeout=PATIENCE_MS) == 8
    assert place(actor) == node.record.token
