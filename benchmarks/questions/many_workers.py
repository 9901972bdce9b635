"""What is left of the rate of 2 workers when there are more of them than cores?"""

import statistics
from typing import Any

from bars import RATE, SHARE, Bar, Row
from work import noop

from questions import Repeats, check, rates, warm

COUNTS = (2, 4, 8, 16, 32, 64)
BARS = {16: (Bar(0.6),), 64: (Bar(0.4),)}
ROWS = [
    *(Row(f"rate_of_{n}", f"pipelined noop tasks, {n} workers", RATE) for n in COUNTS),
    *(
        Row(f"share_of_{n}", f"{n} workers, of 2 workers' rate", SHARE, BARS.get(n, ()))
        for n in COUNTS
        if n > COUNTS[0]
    ),
]
NEEDS: set[str] = set()
OURS_ONLY = True
GROUP = "More workers than cores"
BATCH = 10_000


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    """In turn, so that what else the machine does falls on all of them."""
    figures: dict[str, list[float]] = {row.name: [] for row in ROWS}
    for _ in repeats:
        for workers in COUNTS:
            figures[f"rate_of_{workers}"].append(rate_of(peer, workers))
            if workers > COUNTS[0]:
                share = figures[f"rate_of_{workers}"][-1] / figures[f"rate_of_{COUNTS[0]}"][-1]
                figures[f"share_of_{workers}"].append(share)
    return figures


def rate_of(peer: Any, workers: int) -> float:
    system = peer.start(workers)
    task = system.remote(noop)

    def work() -> int:
        check(system.get([task.remote() for _ in range(BATCH)]), [b"ok"] * BATCH)
        return BATCH

    warm(work)
    warm(work)  # all workers have been forked by then
    rate = statistics.median(rates(work, Repeats(1, 0)))
    peer.stop()
    return rate
