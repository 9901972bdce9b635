"""How many small values a second are put, and how many stored ones got?"""

from typing import Any

from bars import RATE, Bar, Row
from peers import STORE

from questions import Repeats, check, rates, warm

ROWS = [
    Row("put_small", "`put` of a small value", RATE, (Bar(60, 200, "pypi_ray"),)),
    Row("get_small", "`get` of a small stored value", RATE, (Bar(20, 60, "pypi_ray"),)),
]
NEEDS = {STORE}
BATCH = 100


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    system = peer.start()
    numbers = list(range(BATCH))

    def put() -> int:
        ids[:] = [system.put(number) for number in numbers]
        return BATCH

    def get() -> int:
        check([system.get(each) for each in ids], numbers)
        return BATCH

    ids: list[Any] = []
    warm(put)
    put_rates = rates(put, repeats)
    warm(get)
    figures = {"put_small": put_rates, "get_small": rates(get, repeats)}
    peer.stop()
    return figures
