"""How fast does an array of 64 MiB come back from a task?"""

import time
from typing import Any

from bars import BANDWIDTH, Bar, Row
from work import ARRAY_BYTES, array

from questions import Repeats

ROWS = [Row("large_result", "64 MiB array returned by a task", BANDWIDTH, (Bar(1.5, 1.9, "pypi_ray"),))]
NEEDS: set[str] = set()
ROUNDS = 10
WARM = 6


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    import numpy as np

    system = peer.start()
    task = system.remote(array)

    def round_s() -> float:
        began = time.perf_counter()
        found = system.get(task.remote())
        took = time.perf_counter() - began
        if not np.array_equal(found, array()):
            raise ValueError("another array came back")
        return took

    for _ in range(WARM):
        round_s()
    figures = []
    for _ in repeats:
        took = sum(round_s() for _ in range(ROUNDS))
        figures.append(ROUNDS * ARRAY_BYTES / (1 << 30) / took)
    peer.stop()
    return {"large_result": figures}
