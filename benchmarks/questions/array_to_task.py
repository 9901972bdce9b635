"""How many tasks a second, each handed the same 80 MB array by its id, and reading one number of it?"""

from typing import Any

from questions import check, rates

TITLE = "tasks on a shared 80 MB array"
UNIT = "/s"
FLOOR = None
BATCH = 100


def measure(peer: Any, repeats: int) -> list[float]:
    import numpy as np

    ray = peer.start()

    @ray.remote
    def last(array: Any) -> float:
        return float(array[-1])

    shared = ray.put(np.arange(10**7, dtype=np.float64))

    def work() -> int:
        check(ray.get([last.remote(shared) for _ in range(BATCH)]), [float(10**7 - 1)] * BATCH)
        return BATCH

    figures = rates(work, repeats)
    peer.stop()
    return figures
