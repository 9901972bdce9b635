"""How do noop tasks and tasks of 1 ms of computing scale from one worker to one for each core?"""

import os
import statistics
import time
from typing import Any

from bars import RATE, Row
from work import hashed, noop

from questions import Repeats, check, rates, warm

CORES = len(os.sched_getaffinity(0))
COUNTS = sorted({*(1 << power for power in range(CORES.bit_length())), CORES}) if CORES > 2 else []
KINDS = ("noop", "1 ms")
ROWS = [Row(f"{kind}_on_{n}", f"tasks of {kind}, {n} workers", RATE) for kind in KINDS for n in COUNTS]
NEEDS: set[str] = set()
OURS_ONLY = True
GROUP = "From one worker to one a core"
BATCH_A_WORKER = 2000
COMPUTING_S = 0.001
TRIES = 30
TRIED_ROUNDS = 2000


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {row.name: [] for row in ROWS}
    rounds = rounds_of(COMPUTING_S)
    for _ in repeats:
        for workers in COUNTS:
            system = peer.start(workers)
            for kind, function, args in (("noop", noop, ()), ("1 ms", hashed, (rounds,))):
                figures[f"{kind}_on_{workers}"].append(rate_of(system, function, args, workers))
            peer.stop()
    return figures


def rate_of(system: Any, function: Any, args: tuple[int, ...], workers: int) -> float:
    task = system.remote(function)
    count = workers * BATCH_A_WORKER
    expected = [function(*args)] * count

    def work() -> int:
        check(system.get([task.remote(*args) for _ in range(count)]), expected)
        return count

    warm(work)
    return statistics.median(rates(work, Repeats(1, 0)))


def rounds_of(seconds: float) -> int:
    """For `hashed`, so that it takes about so long here when nothing else runs."""
    fastest = float("inf")
    for _ in range(TRIES):
        began = time.perf_counter()
        hashed(TRIED_ROUNDS)
        fastest = min(fastest, time.perf_counter() - began)
    return max(1, round(TRIED_ROUNDS * seconds / fastest))
