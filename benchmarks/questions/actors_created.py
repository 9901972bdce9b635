"""How many actors a second can be created and called, 20 at once?"""

import gc
import time
from typing import Any

from bars import RATE, Bar, Row
from peers import ACTORS
from work import Counter

from questions import Repeats, check

ROWS = [Row("actors_created", "20 actors created and called", RATE, (Bar(100, 200, "pypi_ray"),))]
NEEDS = {ACTORS}
COUNT = 20
PAUSE_S = 1.0  # the last round's actors end meanwhile


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    system = peer.start()
    cls = system.remote(Counter)

    def round_s() -> float:
        gc.collect()
        time.sleep(PAUSE_S)
        began = time.perf_counter()
        actors = [cls.remote() for _ in range(COUNT)]
        found = system.get([actor.count.remote() for actor in actors])
        took = time.perf_counter() - began
        check(found, [1] * COUNT)
        return took

    round_s()
    figures = [COUNT / round_s() for _ in repeats]
    peer.stop()
    return {"actors_created": figures}
