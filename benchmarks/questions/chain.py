"""How many tasks a second in a chain, each taking the result of the one before as its argument?"""

from typing import Any

from bars import RATE, Bar, Row
from peers import DEPENDENCIES
from work import increment

from questions import Repeats, check, rates, warm

ROWS = [Row("chain", "chain of 1,000 dependent tasks", RATE, (Bar(100, 250, "pypi_ray"),))]
NEEDS = {DEPENDENCIES}
LENGTH = 1000


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    system = peer.start()
    task = system.remote(increment)

    def work() -> int:
        value: Any = 0
        for _ in range(LENGTH):
            value = task.remote(value)
        check(system.get(value), LENGTH)
        return LENGTH

    warm(work)
    figures = rates(work, repeats)
    peer.stop()
    return {"chain": figures}
