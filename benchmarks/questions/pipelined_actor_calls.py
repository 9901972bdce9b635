"""How many calls of one actor a second, 10,000 made before the first is got?"""

from typing import Any

from floors import TimesPeer

from questions import check, rates

TITLE = "actor calls, 10,000 pipelined"
UNIT = "/s"
FLOOR = TimesPeer(30)
BATCH = 10_000


def measure(peer: Any, repeats: int) -> list[float]:
    ray = peer.start()

    @ray.remote
    class Counter:
        def __init__(self) -> None:
            self.calls = 0

        def count(self) -> int:
            self.calls += 1
            return self.calls

    actor = Counter.remote()
    expected = 0

    def work() -> int:
        nonlocal expected
        found = ray.get([actor.count.remote() for _ in range(BATCH)])
        check(found, list(range(expected + 1, expected + BATCH + 1)))  # all of them, in order
        expected += BATCH
        return BATCH

    figures = rates(work, repeats)
    peer.stop()
    return figures
