"""What does one more node cost: memory when it is idle, and the time it takes to join?"""

import time
from typing import Any

from bars import MEBIBYTES, PERCENT, SECONDS, Bar, Row
from memory import Memory, cpu_seconds, family
from peers import NODES
from work import noop

from questions import Repeats, check

ROWS = [
    Row("node_join", "a node joins", SECONDS, (Bar(1, 0.4),)),
    Row("node_first_task", "until it has run a task", SECONDS),
    Row("node_memory", "an idle node's memory", MEBIBYTES, (Bar(80, 40),)),
    Row("node_cpu", "an idle node's CPU, of one core", PERCENT),
]
NEEDS = {NODES}
OURS_ONLY = True
GROUP = "Between the nodes of a cluster"
SETTLE_S = 3.0
WINDOW_S = 2.0


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    """A node of one CPU, which has run a task, beside a head that has none."""
    figures: dict[str, list[float]] = {row.name: [] for row in ROWS}
    system = peer.start_cluster(0)
    task = system.remote(noop)
    for _ in repeats:
        others, began = family(), time.perf_counter()
        node = peer.cluster().add_node(num_cpus=1)
        figures["node_join"].append(time.perf_counter() - began)
        check(system.get(task.remote()), b"ok")
        figures["node_first_task"].append(time.perf_counter() - began)
        time.sleep(SETTLE_S)
        own = family() - others
        before, began = cpu_seconds(own), time.perf_counter()
        time.sleep(WINDOW_S)
        spent = cpu_seconds(own) - before
        figures["node_cpu"].append(100 * spent / (time.perf_counter() - began))
        memory = Memory.of_processes(own)
        figures["node_memory"].append(memory.total / (1 << 20))
        peer.cluster().stop_node(node)
    peer.stop()
    return figures
