"""Is local work as fast with a cluster attached as without one?"""

from typing import Any

from bars import SHARE, Bar, Row
from peers import NODES, WORKERS
from streams import noops

from questions import Repeats

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
ONE_BY_ONE = 20_000  # microseconds each: fewer are over before the machine has settled


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    """The custom resource keeps the tasks on their node; the other one has CPUs of its own."""
    figures: dict[str, list[float]] = {row.name: [] for row in ROWS}
    for _ in repeats:
        without = _rates(peer.start(num_custom_resource=WORKERS))
        peer.stop()
        system = peer.start_cluster(0, num_cpus=WORKERS, num_custom_resource=WORKERS)
        peer.cluster().add_node(num_custom_resource=0)
        with_cluster = _rates(system)
        peer.stop()
        for row, one, other in zip(ROWS, with_cluster, without, strict=True):
            figures[row.name].append(one / other)
    return figures


def _rates(system: Any) -> tuple[float, float]:
    stream, once = noops(system, num_custom_resource=1), Repeats(1, 0)
    (pipelined,), (one_by_one,) = stream.pipelined(once), stream.one_by_one(once, ONE_BY_ONE)
    return pipelined, one_by_one
