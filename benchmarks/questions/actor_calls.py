"""How many calls of one actor a second: one at a time, and 10,000 made before the first is got?"""

from typing import Any

from bars import RATE, Bar, Row
from peers import ACTORS
from work import Counter

from questions import Repeats, check, rates, warm

ROWS = [
    Row("sync_calls", "actor calls one at a time", RATE, (Bar(40, 100, "pypi_ray"),)),
    Row("pipelined_calls", "actor calls, 10,000 pipelined", RATE, (Bar(40, 80, "pypi_ray"),)),
]
NEEDS = {ACTORS}
ONE_BY_ONE = 100
PIPELINED = 10_000
WARM = 1000


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    system = peer.start()
    actor = system.remote(Counter).remote()
    calls = 0

    def checked(found: list[int]) -> int:
        """All of them, in order."""
        nonlocal calls
        check(found, list(range(calls + 1, calls + len(found) + 1)))
        calls += len(found)
        return len(found)

    def one_by_one() -> int:
        return checked([system.get(actor.count.remote()) for _ in range(ONE_BY_ONE)])

    def pipelined(count: int = PIPELINED) -> int:
        return checked(system.get([actor.count.remote() for _ in range(count)]))

    warm(one_by_one)
    sync = rates(one_by_one, repeats)
    warm(lambda: pipelined(WARM))
    figures = {"sync_calls": sync, "pipelined_calls": rates(pipelined, repeats)}
    peer.stop()
    return figures
