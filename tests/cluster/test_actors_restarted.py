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
