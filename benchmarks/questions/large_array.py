"""How fast is an array of 256 MiB put, into warm memory, and got?"""

import time
from typing import Any

from bars import BANDWIDTH, SECONDS, Bar, Row
from peers import STORE

from questions import Repeats, times, warm

ROWS = [
    Row("put_large", "`put` of a 256 MiB array, warm", BANDWIDTH, (Bar(1, 1.1, "pypi_ray"),)),
    Row("get_large", "`get` of a 256 MiB array", SECONDS, (Bar(20, 40, "pypi_ray"),)),
]
NEEDS = {STORE}
ARRAY_BYTES = 256 << 20
PAUSE_S = 0.3  # what was dropped is freed meanwhile, where that takes its time


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    import numpy as np

    system = peer.start()
    array = np.arange(ARRAY_BYTES // 8, dtype=np.float64)
    speeds = []
    for _ in range(2):
        del_me = system.put(array)
        del del_me
        time.sleep(PAUSE_S)
    for _ in repeats:
        began = time.perf_counter()
        stored = system.put(array)
        speeds.append(ARRAY_BYTES / (1 << 30) / (time.perf_counter() - began))
        if not np.array_equal(system.get(stored), array):
            raise ValueError("put stored another array")
        del stored
        time.sleep(PAUSE_S)
    stored = system.put(array)
    warm(lambda: system.get(stored))
    figures = {"put_large": speeds, "get_large": times(lambda: system.get(stored), repeats)}
    if not np.array_equal(system.get(stored), array):
        raise ValueError("get brought another array")
    peer.stop()
    return figures
