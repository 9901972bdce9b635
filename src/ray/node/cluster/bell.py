"""How news of the arena reach the event loop: a thread of the kernel rings (`kernel/bell.hpp`), once, and
again when the bell is armed."""

import asyncio
import os
import selectors
from collections.abc import Callable
from typing import Protocol

from ray import _kernel

NEWS_AT_ONCE = 512
# While tasks wait for this node's workers, results are looked at this often: many at one wake-up. Whoever
# runs one task at a time leaves none waiting, so no answer is late for it.
PAUSE_S = 0.02
CAN_WAIT = {_kernel.NEWS_DONE, _kernel.NEWS_GONE, _kernel.NEWS_QUEUED}


class Alarm(Protocol):
    """What a bell is armed by: a lookout, or the arena itself."""

    def arm(self, hears_queue: bool = True) -> object:
        """It rings once more."""

    def has_news(self, hears_queue: bool) -> bool:
        """Whether there is something that it would ring for, and has not yet."""


class Lookout(selectors.EpollSelector):
    """The selector of an event loop that hears a bell: armed while the loop sleeps.

    What comes while something else is dealt with is looked at after that, and nobody need ring.
    """

    def __init__(self, arena: _kernel.Arena) -> None:
        super().__init__()
        self._arena = arena
        self._is_wanted = False  # the bell has not rung since it was asked for
        self._is_armed = False
        self._hears_queue = True
        self._is_told = False  # in this turn of the loop, that there is news

    def arm(self, hears_queue: bool = True) -> None:
        self._is_wanted, self._hears_queue = True, hears_queue
        self._is_armed = False

    def has_news(self, hears_queue: bool) -> bool:
        """Once in a turn of the loop, however many links have brought something."""
        found = self._is_wanted and not self._is_told and self._arena.has_news(hears_queue)
        self._is_told = self._is_told or found
        return found

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._is_wanted and not self._is_armed:
            self._is_armed = True
            self._arena.arm(self._hears_queue)
        self._is_told = False
        ready = super().select(timeout)
        if ready and self._is_armed:
            self._is_armed = False
            self._is_wanted = self._arena.disarm()
        return ready


class Bell:
    def __init__(self, arena: _kernel.Arena, on_ring: Callable[[], None], alarm: Alarm | None = None) -> None:
        self.arena = arena
        self.alarm = alarm or arena
        self.on_ring = on_ring
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_open = False
        self._is_paused = False
        self._until_queue: asyncio.TimerHandle | None = None  # the queue is not listened to

    def open(self) -> None:
        """On the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._rung)
        self.arena.listen(self._fd)
        self._is_open = True
        self._arm()

    def _rung(self) -> None:
        os.eventfd_read(self._fd)
        self.on_ring()

    def look(self) -> None:
        """Something else was dealt with: what has become news meanwhile is told of at once, and not in the
        loop's next turn. Whoever was given what it waited for may have been quick."""
        if self._is_open and not self._is_paused and self.alarm.has_news(self._until_queue is None):
            self.on_ring()

    def may_pause(self, kinds: set[int], count: int) -> bool:
        """After so many news, of these kinds."""
        return (
            _kernel.NEWS_DONE in kinds
            and kinds <= CAN_WAIT
            and count < NEWS_AT_ONCE
            and self.arena.ready_tasks > 0
        )

    def arm(self, pauses: bool, queue_pause_ms: float) -> None:
        """To be called when what it has told of is dealt with; for so long it rings for other news than that
        tasks wait in the queue."""
        if self._until_queue is not None and queue_pause_ms:
            self._until_queue.cancel()
        if queue_pause_ms:
            self._until_queue = self._loop.call_later(queue_pause_ms / 1000, self._hear_queue)
        if pauses:
            self._is_paused = True
            self._loop.call_later(PAUSE_S, self._arm)
        else:
            self._arm()

    def _hear_queue(self) -> None:
        self._until_queue = None
        if not self._is_paused:
            self._arm()

    def _arm(self) -> None:
        self._is_paused = False
        self.alarm.arm(self._until_queue is None)

    def close(self) -> None:
        self._is_open = False
        self.arena.listen(None)
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
