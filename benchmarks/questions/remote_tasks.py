"""How many noop tasks a second that must run on another node: pipelined, and one at a time?"""

from typing import Any

from bars import RATE, Bar, Row
from peers import NODES
from streams import noops

from questions import Repeats

ROWS = [
    Row("remote_pipelined_tasks", "10,000 noop tasks on another node", RATE, (Bar(10, 30, "pypi_ray"),)),
    Row("remote_sync_tasks", "one noop task at a time on another node", RATE, (Bar(3, 6, "pypi_ray"),)),
]
NEEDS = {NODES}
GROUP = "Between the nodes of a cluster"


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    stream = noops(peer.start_cluster(1))
    figures = {
        "remote_pipelined_tasks": stream.pipelined(repeats),
        "remote_sync_tasks": stream.one_by_one(repeats),
    }
    peer.stop()
    return figures
