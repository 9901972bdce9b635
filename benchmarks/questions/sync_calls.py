"""How many calls of one actor a second, one at a time: each is got before the next is made?"""

from typing import Any

from bars import RATE, Bar, Row
from peers import ACTORS
from work import Counter

from questions import Repeats, check, rates, warm

ROWS = [Row("sync_calls", "actor calls one at a time", RATE, (Bar(40, 100, "pypi_ray"),))]
NEEDS = {ACTORS}
BATCH = 100


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    system = peer.start()
    actor = system.remote(Counter).remote()
    calls = 0

    def work() -> int:
        nonlocal calls
        found = [system.get(actor.count.remote()) for _ in range(BATCH)]
        check(found, list(range(calls + 1, calls + BATCH + 1)))
        calls += BATCH
        return BATCH

    warm(work)
    figures = rates(work, repeats)
    peer.stop()
    return {"sync_calls": figures}
