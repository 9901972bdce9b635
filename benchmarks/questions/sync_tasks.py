"""How many noop tasks a second, one at a time: each is got before the next is submitted?"""

import statistics
import time
from typing import Any

from bars import RATE, SECONDS, TIMES, Bar, Row
from work import noop

from questions import LEAST_S, Repeats, check, warm

ROWS = [
    Row("sync_tasks", "one noop task at a time", RATE, (Bar(50, 150, "pypi_ray"),)),
    Row("sync_tasks_p99", "the slowest of 100 of them (p99)", SECONDS),
    Row("sync_tasks_tail", "its p99 in medians", TIMES, (Bar(10),), compared=False),
]
NEEDS: set[str] = set()
BATCH = 100
PERCENTILE = 99


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    system = peer.start()
    task = system.remote(noop)

    def batch() -> list[int]:
        """The nanoseconds that each took."""
        took, found = [], []
        for _ in range(BATCH):
            began = time.perf_counter_ns()
            found.append(system.get(task.remote()))
            took.append(time.perf_counter_ns() - began)
        check(found, [b"ok"] * BATCH)
        return took

    warm(batch)
    figures: dict[str, list[float]] = {row.name: [] for row in ROWS}
    for _ in repeats:
        took: list[int] = []
        until = time.perf_counter() + LEAST_S
        while not took or time.perf_counter() < until:
            took += batch()
        took.sort()
        slow = took[len(took) * PERCENTILE // 100]
        figures["sync_tasks"].append(len(took) / sum(took) * 1e9)
        figures["sync_tasks_p99"].append(slow / 1e9)
        figures["sync_tasks_tail"].append(slow / statistics.median(took))
    peer.stop()
    return figures
