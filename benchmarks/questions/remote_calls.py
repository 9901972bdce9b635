"""How many calls a second of an actor on another node: pipelined, and one at a time?"""

from typing import Any

from bars import RATE, Bar, Row
from peers import ACTORS, NODES
from work import Counter

from questions import Repeats, check, rates, warm

ROWS = [
    Row(
        "remote_pipelined_calls", "10,000 calls of an actor on another node", RATE, (Bar(10, 30, "pypi_ray"),)
    ),
    Row("remote_sync_calls", "one call of it at a time", RATE, (Bar(3, 6, "pypi_ray"),)),
]
NEEDS = {ACTORS, NODES}
GROUP = "Between the nodes of a cluster"
BATCH = 10_000
WARM = 1000
ONE_BY_ONE = 100


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    system = peer.start_cluster(1)
    actor = system.remote(Counter).remote()
    calls = 0

    def checked(found: list[int]) -> int:
        """dask keeps no order, but makes every call once."""
        nonlocal calls
        check(sorted(found), list(range(calls + 1, calls + len(found) + 1)))
        calls += len(found)
        return len(found)

    def pipelined(count: int = BATCH) -> int:
        return checked(system.get([actor.count.remote() for _ in range(count)]))

    def one_by_one() -> int:
        return checked([system.get(actor.count.remote()) for _ in range(ONE_BY_ONE)])

    warm(lambda: pipelined(WARM))
    figures = {"remote_pipelined_calls": rates(pipelined, repeats)}
    warm(one_by_one)
    figures["remote_sync_calls"] = rates(one_by_one, repeats)
    peer.stop()
    return figures
