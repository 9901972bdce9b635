"""How many noop tasks a second that must run on another node: pipelined, and one at a time?"""

from typing import Any

from bars import RATE, Bar, Row
from peers import NODES
from work import noop

from questions import Repeats, check, rates, warm

ROWS = [
    Row("remote_pipelined_tasks", "10,000 noop tasks on another node", RATE, (Bar(10, 30, "pypi_ray"),)),
    Row("remote_sync_tasks", "one noop task at a time on another node", RATE, (Bar(3, 6, "pypi_ray"),)),
]
NEEDS = {NODES}
GROUP = "Between the nodes of a cluster"
BATCH = 10_000
WARM = 1000
ONE_BY_ONE = 100


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    system = peer.start_cluster(1)
    task = system.remote(noop)

    def pipelined(count: int = BATCH) -> int:
        check(system.get([task.remote() for _ in range(count)]), [b"ok"] * count)
        return count

    def one_by_one() -> int:
        check([system.get(task.remote()) for _ in range(ONE_BY_ONE)], [b"ok"] * ONE_BY_ONE)
        return ONE_BY_ONE

    warm(lambda: pipelined(WARM))
    figures = {"remote_pipelined_tasks": rates(pipelined, repeats)}
    warm(one_by_one)
    figures["remote_sync_tasks"] = rates(one_by_one, repeats)
    peer.stop()
    return figures
