"""Virtual time, events in order, one source of chance, and the story of a run.

A run is made by its seed alone: the same seed gives the same events in the same order, so a failure is
replayed by running its seed again.
"""

import heapq
import random
from collections.abc import Callable

STORY_LINES = 4_000  # kept of each run, the last ones


class World:
    """One run. Times are microseconds since its beginning."""

    def __init__(self, seed: int, keep_story: bool = False) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.now_us = 0
        self.story: list[str] = []
        self.keep_story = keep_story
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, delay_us: int, event: Callable[[], None]) -> None:
        """Events of the same time happen in the order in which they were entered."""
        self._count += 1
        heapq.heappush(self._events, (self.now_us + delay_us, self._count, event))

    def run(self, until_us: int) -> bool:
        """Everything that happens until then; whether there is anything left after it."""
        while self._events and self._events[0][0] <= until_us:
            self.now_us, _, event = heapq.heappop(self._events)
            event()
        self.now_us = max(self.now_us, until_us)
        return bool(self._events)

    def run_out(self, limit_us: int) -> None:
        """Until nothing is left to happen. Raises `Unending` when that is not within so much time."""
        if self.run(self.now_us + limit_us):
            raise Unending(f"seed {self.seed}: still busy after {limit_us} us")

    def tell(self, text: Callable[[], str]) -> None:
        """A line of the story; the text is made only if somebody will read it."""
        if self.keep_story:
            self.story.append(f"{self.now_us / 1000:10.3f} ms  {text()}")
            del self.story[:-STORY_LINES]


class Unending(AssertionError):
    """A run that does not come to rest."""
