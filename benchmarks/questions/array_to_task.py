"""How many tasks a second, each handed the same 80 MB array by its id, and reading one number of it?"""

from typing import Any

from bars import RATE, Row
from peers import DEPENDENCIES, STORE
from work import last

from questions import Repeats, check, rates, warm

ROWS = [Row("array_to_task", "tasks on a shared 80 MB array", RATE)]
NEEDS = {DEPENDENCIES, STORE}
BATCH = 100


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    import numpy as np

    system = peer.start()
    task = system.remote(last)
    shared = system.put(np.arange(10**7, dtype=np.float64))

    def work() -> int:
        check(system.get([task.remote(shared) for _ in range(BATCH)]), [float(10**7 - 1)] * BATCH)
        return BATCH

    warm(work)
    figures = rates(work, repeats)
    peer.stop()
    return {"array_to_task": figures}
