"""How often a second can 1,000 noop tasks be submitted and their ids popped off by `wait`, one at a time?"""

from typing import Any

from bars import LOOPS, Bar, Row
from peers import WAIT
from work import noop

from questions import Repeats, check, rates, warm

ROWS = [
    Row("wait_one_by_one", "`wait` over 1,000 ids, one popped at a time", LOOPS, (Bar(50, 100, "pypi_ray"),))
]
NEEDS = {WAIT}
COUNT = 1000


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    system = peer.start()
    task = system.remote(noop)

    def work() -> int:
        ids = list(peer.popped(system, [task.remote() for _ in range(COUNT)]))
        check(system.get(ids), [b"ok"] * COUNT)
        return 1

    warm(work)
    figures = rates(work, repeats)
    peer.stop()
    return {"wait_one_by_one": figures}
