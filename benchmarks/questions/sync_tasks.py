"""How many tasks a second, one at a time: each is got before the next is submitted?"""

from typing import Any

from floors import TimesPeer

from questions import check, rates

TITLE = "tasks, one at a time"
UNIT = "/s"
FLOOR = TimesPeer(30)
BATCH = 100


def measure(peer: Any, repeats: int) -> list[float]:
    ray = peer.start()

    @ray.remote
    def noop() -> bytes:
        return b"ok"

    def work() -> int:
        for _ in range(BATCH):
            check(ray.get(noop.remote()), b"ok")
        return BATCH

    figures = rates(work, repeats)
    peer.stop()
    return figures
