"""How fast does an array of 256 MiB come from one node to another, and to four?"""

import time
from typing import Any

from bars import BANDWIDTH, SECONDS, Bar, Row
from peers import NODES, STORE
from work import arrived

from questions import Repeats, check

ROWS = [
    Row("array_to_node", "a 256 MiB array to another node", BANDWIDTH, (Bar(1, 2, "pypi_ray"),)),
    Row("array_to_four", "one 256 MiB array to 4 nodes", SECONDS, (Bar(1.5, 3, "pypi_ray"),)),
]
NEEDS = {NODES, STORE}
GROUP = "Between the nodes of a cluster"
ARRAY_BYTES = 256 << 20
NODE_COUNT = 4
WARM = 2  # so often before: memory is touched, connections are made
PAUSE_S = 0.5  # what was dropped is freed meanwhile, where that takes its time


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    """Arrays are put first; what counts is the time from the submission until the last task has its array."""
    figures = {}
    for row, nodes in (("array_to_node", 1), ("array_to_four", NODE_COUNT)):
        took = _seconds(peer, nodes, repeats)
        figures[row] = took if nodes > 1 else [ARRAY_BYTES / (1 << 30) / each for each in took]
    return figures


def _seconds(peer: Any, nodes: int, repeats: Repeats) -> list[float]:
    import numpy as np

    system = peer.start_cluster(nodes)
    task = system.remote(arrived)
    array = np.arange(ARRAY_BYTES // 8, dtype=np.float64)

    def once() -> float:
        array[-1] += 1
        stored = system.put(array)
        time.sleep(PAUSE_S)
        began = time.monotonic()
        found = system.get([task.remote(stored) for _ in range(nodes)])
        check([last for _, last, _ in found], [float(array[-1])] * nodes)
        check(len({process for _, _, process in found}), nodes)
        return max(moment for moment, _, _ in found) - began

    for _ in range(WARM):
        once()
    took = [once() for _ in repeats]
    peer.stop()
    return took
