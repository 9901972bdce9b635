"""How many ids a second, taken out of 1,000 finished ones by `wait`, one after the other?"""

from typing import Any

from questions import check, rates

TITLE = "wait, 1,000 ids one by one"
UNIT = "/s"
FLOOR = None
BATCH = 1000


def measure(peer: Any, repeats: int) -> list[float]:
    ray = peer.start()

    @ray.remote
    def noop() -> bytes:
        return b"ok"

    def work() -> int:
        remaining = [noop.remote() for _ in range(BATCH)]
        taken = 0
        while remaining:
            ready, remaining = ray.wait(remaining)
            taken += len(ready)
        check(taken, BATCH)
        return BATCH

    figures = rates(work, repeats)
    peer.stop()
    return figures
