"""How many tasks a second, 10,000 submitted before the first is got?"""

from typing import Any

from floors import TimesPeer

from questions import check, rates

TITLE = "tasks, 10,000 pipelined"
UNIT = "/s"
FLOOR = TimesPeer(30)
BATCH = 10_000


def measure(peer: Any, repeats: int) -> list[float]:
    ray = peer.start()

    @ray.remote
    def noop() -> bytes:
        return b"ok"

    def work() -> int:
        check(ray.get([noop.remote() for _ in range(BATCH)]), [b"ok"] * BATCH)
        return BATCH

    figures = rates(work, repeats)
    peer.stop()
    return figures
