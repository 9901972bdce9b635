"""How news of the arena reach the event loop: a thread of the kernel rings (`kernel/bell.hpp`), once, and
again when the bell is armed."""

import asyncio
import os
from collections.abc import Callable

from ray import _kernel

NEWS_AT_ONCE = 512
# While tasks wait for this node's workers, results are looked at this often: many at one wake-up. Whoever
# runs one task at a time leaves none waiting, so no answer is late for it.
PAUSE_S = 0.02
CAN_WAIT = {_kernel.NEWS_DONE, _kernel.NEWS_GONE, _kernel.NEWS_QUEUED}


class Bell:
    def __init__(self, arena: _kernel.Arena, on_ring: Callable[[], None]) -> None:
        self.arena = arena
        self.on_ring = on_ring
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_paused = False
        self._until_queue: asyncio.TimerHandle | None = None  # the queue is not listened to

    def open(self) -> None:
        """On the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._rung)
        self.arena.listen(self._fd)
        self._arm()

    def _rung(self) -> None:
        os.eventfd_read(self._fd)
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
        self.arena.arm(self._until_queue is None)

    def close(self) -> None:
        self.arena.listen(None)
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
