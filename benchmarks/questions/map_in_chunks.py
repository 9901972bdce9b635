"""How many items a second does a map in chunks do, the work on each next to nothing?"""

from typing import Any

from bars import RATE, Bar, Row
from peers import CHUNKS
from work import increment

from questions import Repeats, check, rates, warm

ROWS = [Row("map_in_chunks", "map of 100,000 items in chunks", RATE, (Bar(1, None, "pool"),))]
NEEDS = {CHUNKS}
COUNT = 100_000
WARM = 1000


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    system = peer.start()
    items = list(range(COUNT))
    expected = list(range(1, COUNT + 1))

    def work() -> int:
        check(peer.in_chunks(system, increment, items), expected)
        return COUNT

    warm(lambda: check(peer.in_chunks(system, increment, items[:WARM]), expected[:WARM]))
    figures = rates(work, repeats)
    peer.stop()
    return {"map_in_chunks": figures}
