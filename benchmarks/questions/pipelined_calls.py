"""How many calls of one actor a second, 10,000 made before the first is got, executed in that order?"""

from typing import Any

from bars import RATE, Bar, Row
from peers import ACTORS, ORDER
from work import Counter

from questions import Repeats, check, rates, warm

ROWS = [Row("pipelined_calls", "actor calls, 10,000 pipelined", RATE, (Bar(40, 80, "pypi_ray"),))]
NEEDS = {ACTORS, ORDER}
BATCH = 10_000
WARM = 1000


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    system = peer.start()
    actor = system.remote(Counter).remote()
    calls = 0

    def work(count: int = BATCH) -> int:
        nonlocal calls
        found = system.get([actor.count.remote() for _ in range(count)])
        check(found, list(range(calls + 1, calls + count + 1)))
        calls += count
        return count

    warm(lambda: work(WARM))
    figures = rates(work, repeats)
    peer.stop()
    return {"pipelined_calls": figures}
