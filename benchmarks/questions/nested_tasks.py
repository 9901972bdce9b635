"""How long does a task take that runs 100 tasks and waits for them?"""

from typing import Any

from bars import SECONDS, Bar, Row
from peers import NESTED
from work import fan_out

from questions import Repeats, check, name_of, times, warm

ROWS = [Row("nested_tasks", "a task that runs 100 tasks", SECONDS, (Bar(30, 60, "pypi_ray"),))]
NEEDS = {NESTED}
COUNT = 100


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    system = peer.start()
    task = system.remote(fan_out)

    def work() -> None:
        check(system.get(task.remote(name_of(peer), COUNT)), COUNT)

    warm(work)
    figures = times(work, repeats)
    peer.stop()
    return {"nested_tasks": figures}
