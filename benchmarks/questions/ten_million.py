"""Does any process or the arena grow while ten million tasks run?"""

import time
from typing import Any

from bars import BYTES, RATE, Bar, Row, Unit
from memory import Memory, anonymous, family
from work import increment

from questions import Repeats, check

ROWS = [
    Row("ten_million", "ten million tasks", RATE),
    Row("grown_process", "growth of the process that grew most", BYTES, (Bar(256 << 10),)),
    Row("grown_shared", "growth of the arena's memory", BYTES, (Bar(64 << 10),)),
    Row("grown_heap", "growth of what the arena has ever touched", BYTES, (Bar(0),)),
    Row("grown_entries", "growth of the arena's tables and heap", Unit("entries"), (Bar(0),)),
]
NEEDS: set[str] = set()
OURS_ONLY = True
GROUP = "Ten million tasks"
LONG = True
COUNT = 10_000_000
BATCH = 10_000
MOST_AT_ONCE = 5  # batches
# Ids made one after the other walk around the table that finds objects (2,097,152 words): until they have
# been around, a task touches 4 bytes of it for the first time.
WARM = 2_500_000
COUNTED = (
    "objects",
    "tasks",
    "links",
    "references",
    "watches",
    "actors",
    "lanes",
    "heap_blocks",
    "processes",
)


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    from ray import _kernel

    system = peer.start()
    task = system.remote(increment)
    arena: Any = _kernel.current()
    numbers = list(range(BATCH))
    expected = [number + 1 for number in numbers]

    def run(count: int) -> None:
        for done in range(0, count, BATCH):
            check(system.get([task.remote(number) for number in numbers]), expected)
            if done % 500_000 == 0:
                repeats.say(f"{done:,} of {count:,}")

    # More at once than ever after, so that tables and heap have seen their fullest.
    ids = [task.remote(number) for number in numbers * MOST_AT_ONCE]
    check(system.get(ids), expected * MOST_AT_ONCE)
    del ids
    run(WARM)
    pids = family()
    # What counting takes itself is this process's growth: the larger count comes first, and last.
    before = Memory.of_processes(pids)
    own, counts = anonymous(pids), arena.stats()
    began = time.perf_counter()
    run(COUNT)
    took = time.perf_counter() - began
    own_grown = [nbytes - own[pid] for pid, nbytes in anonymous(pids).items()]
    grown, stats = Memory.of_family() - before, arena.stats()
    check(stats["tasks_done"] - counts["tasks_done"], COUNT)
    figures: dict[str, float] = {
        "ten_million": COUNT / took,
        "grown_process": max(own_grown),
        "grown_shared": grown.shared,
        "grown_heap": stats["heap_touched_bytes"] - counts["heap_touched_bytes"],
        "grown_entries": sum(abs(stats[name] - counts[name]) for name in COUNTED),
    }
    peer.stop()
    return {name: [figure] for name, figure in figures.items()}
