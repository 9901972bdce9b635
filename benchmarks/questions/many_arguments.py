"""How long to put 1,000 values, and to run one task that has all their ids as arguments?"""

from typing import Any

from bars import SECONDS, Bar, Row
from peers import DEPENDENCIES, STORE
from work import total

from questions import Repeats, check, times, warm

ROWS = [
    Row(
        "many_arguments",
        "one task with 1,000 ids as arguments, end to end",
        SECONDS,
        (Bar(40, 100, "pypi_ray"),),
    )
]
NEEDS = {DEPENDENCIES, STORE}
COUNT = 1000


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    system = peer.start()
    task = system.remote(total)

    def work() -> None:
        ids = [system.put(number) for number in range(COUNT)]
        check(system.get(task.remote(*ids)), COUNT * (COUNT - 1) // 2)

    warm(work)
    figures = times(work, repeats)
    peer.stop()
    return {"many_arguments": figures}
