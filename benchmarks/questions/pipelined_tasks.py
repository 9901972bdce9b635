"""How many noop tasks a second, 10,000 submitted before the first is got?"""

from typing import Any

from bars import RATE, Bar, Row
from work import noop

from questions import Repeats, check, rates, warm

ROWS = [
    Row(
        "pipelined_tasks",
        "10,000 noop tasks submitted, then got",
        RATE,
        (Bar(80, 200, "pypi_ray"), Bar(3, 8, "pool")),
    )
]
NEEDS: set[str] = set()
BATCH = 10_000
WARM = 1000


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    system = peer.start()
    task = system.remote(noop)

    def work(count: int = BATCH) -> int:
        check(system.get([task.remote() for _ in range(count)]), [b"ok"] * count)
        return count

    warm(lambda: work(WARM))
    figures = rates(work, repeats)
    peer.stop()
    return {"pipelined_tasks": figures}
