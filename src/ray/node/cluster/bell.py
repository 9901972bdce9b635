"""How news of the arena reach the event loop, once, and again when the bell is armed (`kernel/bell.hpp`)."""

import asyncio
import math
import os
import selectors
from collections.abc import Callable
from typing import Protocol

from ray import _kernel

NEWS_AT_ONCE = 512
# While tasks wait for this node's workers, results are looked at this often: many at one wake-up. Whoever
# runs one task at a time leaves none waiting, so no answer is late for it.
PAUSE_S = 0.03
CAN_WAIT = {_kernel.NEWS_DONE, _kernel.NEWS_GONE, _kernel.NEWS_QUEUED}

Heard = list[tuple[selectors.SelectorKey, int]]  # what a selector returns


class Alarm(Protocol):
    """What a bell is armed by."""

    def begin(self, fd: int) -> None:
        """The loop reads from this eventfd: it is to be called back for it when there is news."""

    def arm(self, hears_queue: bool) -> None:
        """It rings once more."""

    @property
    def is_told(self) -> bool:
        """It has rung, or is about to."""

    def has_news(self, hears_queue: bool) -> bool:
        """Whether there is something that it would ring for, and has not yet."""

    def heard(self) -> None:
        """The loop was called back."""

    def end(self) -> None: ...


class RingingThread:
    """The alarm of any loop."""

    is_told = False  # as far as is known here

    def __init__(self, arena: _kernel.Arena) -> None:
        self._arena = arena
        self._fd = -1

    def begin(self, fd: int) -> None:
        self._fd = fd
        self._arena.listen(fd)

    def arm(self, hears_queue: bool) -> None:
        self._arena.arm(hears_queue)

    def has_news(self, hears_queue: bool) -> bool:
        return self._arena.has_news(hears_queue)

    def heard(self) -> None:
        os.eventfd_read(self._fd)

    def end(self) -> None:
        self._arena.listen(None)


class Lookout(selectors.EpollSelector):
    """The selector of an event loop that hears a bell, and the alarm of that: the arena sleeps for both.

    What comes while something else is dealt with is looked at after that, and nobody need ring.
    """

    def __init__(self, arena: _kernel.Arena) -> None:
        super().__init__()
        self._arena = arena
        self._bell: Heard = []  # what else it returns when there is news
        self._is_armed = False
        self._hears_queue = True
        self._is_told = False  # in this turn of the loop, that there is news

    def begin(self, fd: int) -> None:
        self._bell = [(self.get_key(fd), selectors.EVENT_READ)]
        self._arena.hear(self.fileno())

    def arm(self, hears_queue: bool = True) -> None:
        self._is_armed, self._hears_queue = True, hears_queue

    @property
    def is_told(self) -> bool:
        """Once in a turn of the loop, however many links have brought something."""
        return self._is_told or not self._is_armed

    def has_news(self, hears_queue: bool) -> bool:
        if self.is_told:
            return False
        self._is_told = self._arena.has_news(hears_queue)
        return self._is_told

    def heard(self) -> None:
        """Nothing was written."""

    def end(self) -> None:
        self._is_armed = False
        self._arena.hear(None)

    def select(self, timeout: float | None = None) -> Heard:
        self._is_told = False
        if not self._is_armed:
            return super().select(timeout)
        if timeout is not None and timeout <= 0:
            has_news, is_ready = self._arena.has_news(self._hears_queue), True
        else:
            timeout_ms = -1 if timeout is None else math.ceil(timeout * 1000)
            has_news, is_ready = self._arena.sleep(timeout_ms, self._hears_queue)
        ready = super().select(0) if is_ready else []
        if has_news:
            self._is_armed = False
            ready += self._bell
        return ready


class Bell:
    def __init__(self, arena: _kernel.Arena, on_ring: Callable[[], None], alarm: Alarm | None = None) -> None:
        self.arena = arena
        self.alarm = alarm or RingingThread(arena)
        self.on_ring = on_ring
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_open = False
        self._is_paused = False
        self._until_queue: asyncio.TimerHandle | None = None  # the queue is not listened to

    def open(self) -> None:
        """On the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._rung)
        self.alarm.begin(self._fd)
        self._is_open = True
        self._arm()

    def _rung(self) -> None:
        self.alarm.heard()
        self.on_ring()

    def look(self) -> None:
        """Something else was dealt with: what has become news meanwhile is told of at once, and not in the
        loop's next turn. Whoever was given what it waited for may have been quick."""
        if not self._is_open or self._is_paused or self.alarm.is_told:
            return
        hears_queue = self._until_queue is None
        if self.alarm.has_news(hears_queue) or (self.arena.give_way() and self.alarm.has_news(hears_queue)):
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
        self.alarm.end()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
