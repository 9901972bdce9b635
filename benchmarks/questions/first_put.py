"""How fast is an array of 256 MiB put into a store that has held nothing yet?"""

import time
from typing import Any

from bars import BANDWIDTH, Bar, Row
from peers import STORE

from questions import Repeats

ROWS = [
    Row(
        "first_put", "`put` of a 256 MiB array, first of the session", BANDWIDTH, (Bar(1.8, 2.2, "pypi_ray"),)
    )
]
NEEDS = {STORE}
IN_TURNS = True
ARRAY_BYTES = 256 << 20


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    import numpy as np

    array = np.arange(ARRAY_BYTES // 8, dtype=np.float64)
    figures = []
    for _ in repeats:
        system = peer.start()
        began = time.perf_counter()
        stored = system.put(array)
        figures.append(ARRAY_BYTES / (1 << 30) / (time.perf_counter() - began))
        if not np.array_equal(system.get(stored), array):
            raise ValueError("put stored another array")
        del stored
        peer.stop()
    return {"first_put": figures}
