"""How many calls a second of an actor on another node: pipelined, and one at a time?"""

from typing import Any

from bars import RATE, Bar, Row
from peers import ACTORS, NODES, ORDER
from streams import calls

from questions import Repeats

ROWS = [
    Row(
        "remote_pipelined_calls", "10,000 calls of an actor on another node", RATE, (Bar(10, 30, "pypi_ray"),)
    ),
    Row("remote_sync_calls", "one call of it at a time", RATE, (Bar(3, 6, "pypi_ray"),)),
]
NEEDS = {ACTORS, NODES}
GROUP = "Between the nodes of a cluster"


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    stream = calls(peer.start_cluster(1), ordered=ORDER in peer.CAN)
    figures = {
        "remote_pipelined_calls": stream.pipelined(repeats),
        "remote_sync_calls": stream.one_by_one(repeats),
    }
    peer.stop()
    return figures
