"""What does it cost to spread a burst of 20,000 tasks of 1 ms over four nodes?"""

import time
from collections import Counter
from typing import Any

from bars import PERCENT, SECONDS, Bar, Row
from memory import cpu_seconds, family
from peers import NODES
from work import spin

from questions import Repeats, check

ROWS = [
    Row("burst_cpu", "20,000 tasks of 1 ms over 4 nodes: CPU above the ideal", PERCENT, (Bar(15, 5),)),
    Row("burst_took", "until the last is done", SECONDS),
    Row("burst_share", "of the tasks, the busiest node had", PERCENT),
]
NEEDS = {NODES}
GROUP = "Between the nodes of a cluster"
NODE_COUNT = 4
TASKS = 20_000
TASK_S = 0.001
WARM = 400


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    system = peer.start_cluster(NODE_COUNT)
    task = system.remote(spin)

    def run(count: int) -> Counter[int]:
        return Counter(system.get([task.remote(TASK_S) for _ in range(count)]))

    run(WARM)
    figures: dict[str, list[float]] = {row.name: [] for row in ROWS}
    for _ in repeats:
        before, began = cpu_seconds(family()), time.perf_counter()
        done = run(TASKS)
        took = time.perf_counter() - began
        spent = cpu_seconds(family()) - before
        check((sum(done.values()), len(done)), (TASKS, NODE_COUNT))
        figures["burst_cpu"].append(100 * (spent / (TASKS * TASK_S) - 1))
        figures["burst_took"].append(took)
        figures["burst_share"].append(100 * max(done.values()) / TASKS)
    peer.stop()
    return figures
