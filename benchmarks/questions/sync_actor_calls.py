"""How many calls of one actor a second, one at a time: each is got before the next is made?"""

from typing import Any

from questions import check, rates

TITLE = "actor calls, one at a time"
UNIT = "/s"
FLOOR = None
BATCH = 100


def measure(peer: Any, repeats: int) -> list[float]:
    ray = peer.start()

    @ray.remote
    class Idle:
        def noop(self) -> bytes:
            return b"ok"

    actor = Idle.remote()

    def work() -> int:
        for _ in range(BATCH):
            check(ray.get(actor.noop.remote()), b"ok")
        return BATCH

    figures = rates(work, repeats)
    peer.stop()
    return figures
