"""Is local work as fast with a cluster attached as without one?"""

from typing import Any

from bars import SHARE, Bar, Row
from peers import NODES, WORKERS
from work import noop

from questions import Repeats, check, rates, warm

ROWS = [
    Row(
        "attached_pipelined", "local pipelined tasks with a cluster, of those without", SHARE, (Bar(0.95, 1),)
    ),
    Row(
        "attached_sync", "local tasks one at a time with a cluster, of those without", SHARE, (Bar(0.95, 1),)
    ),
]
NEEDS = {NODES}
OURS_ONLY = True
GROUP = "Between the nodes of a cluster"
PIPELINED = 10_000
ONE_BY_ONE = 1_000


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    """The custom resource keeps the tasks on their node; the other one has CPUs of its own."""
    figures: dict[str, list[float]] = {row.name: [] for row in ROWS}
    for _ in repeats:
        without, with_cluster = _alone(), _attached()
        for row in ROWS:
            figures[row.name].append(with_cluster[row.name] / without[row.name])
    return figures


def _alone() -> dict[str, float]:
    import ray

    ray.init(num_cpus=WORKERS, num_custom_resource=WORKERS)
    try:
        return _rates(ray)
    finally:
        ray.shutdown()


def _attached() -> dict[str, float]:
    import ray
    from ray.testing import LocalCluster

    with LocalCluster(1, num_cpus=WORKERS, num_custom_resource=WORKERS) as cluster:
        cluster.add_node(num_custom_resource=0)
        ray.init(redis_address=cluster.address)
        try:
            return _rates(ray)
        finally:
            ray.shutdown()


def _rates(system: Any) -> dict[str, float]:
    task = system.remote(num_custom_resource=1)(noop)

    def pipelined() -> int:
        check(system.get([task.remote() for _ in range(PIPELINED)]), [b"ok"] * PIPELINED)
        return PIPELINED

    def one_by_one() -> int:
        check([system.get(task.remote()) for _ in range(ONE_BY_ONE)], [b"ok"] * ONE_BY_ONE)
        return ONE_BY_ONE

    found = {}
    for row, work in zip(ROWS, (pipelined, one_by_one), strict=True):
        warm(work)
        (found[row.name],) = rates(work, Repeats(1, 0))
    return found
