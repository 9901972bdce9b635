"""Whom to stop when memory runs out, when to look again, and when a stopped task starts again.

All memory is in bytes, all times are milliseconds of one monotonic clock unless a name says otherwise.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

# Who holds less than this is not worth stopping: little comes back, and work is lost.
LITTLE_BYTES = 8 << 20
LITTLE_OF_LIMIT = 100  # nor, as long as there are others, who holds less than a 100th of the limit
LITTLE_OF_LARGEST = 10  # or a 10th of what the largest of its rank holds
# How fast a machine's memory may be filled: two cores that touch new pages. Decides how soon to look again.
FILLED_BYTES_PER_MS = (4 << 30) // 1000
SOONEST_MS, LATEST_MS = 20, 1_000
LONGEST_PAUSES = 8  # a pause doubles with each stop, up to so many times the first
PATIENCE_PAUSES = 20  # after so many pauses a task is started again though memory has not come back


class Rank(IntEnum):
    """What a worker is, in the order in which they are stopped."""

    IDLE = 0  # runs nothing, and yet holds memory
    RETRIABLE = 1  # a task that may run again
    ONCE = 2  # a task that may not
    ACTOR = 3


@dataclass(frozen=True, slots=True)
class Allowance:
    """One limit that holds here: the machine's, a cgroup's, or the session's own."""

    what: str  # for people: "this machine", "the cgroup /x"
    used_bytes: int
    limit_bytes: int
    act_bytes: int  # from here on somebody is stopped

    @property
    def room_bytes(self) -> int:
        """What may still be taken before somebody is stopped; negative when it is past that."""
        return self.act_bytes - self.used_bytes


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process and what it does."""

    pid: int
    key: int  # names what it does now
    rank: Rank
    held_bytes: int  # by itself and the processes it has started
    since_ns: int  # its task's start; an actor's own
    stops: int = 0  # how often its task has been stopped for memory before
    restarts: bool = False  # an actor with checkpoints


def tightest(allowances: Iterable[Allowance]) -> Allowance | None:
    """The one with the least room; None when nothing is limited."""
    return min(allowances, key=lambda allowance: allowance.room_bytes, default=None)


def next_look_ms(room_bytes: int) -> int:
    """How long to sleep, so that what may be filled meanwhile is no more than the room there is."""
    return max(SOONEST_MS, min(LATEST_MS, room_bytes // FILLED_BYTES_PER_MS))


def choose(workers: Sequence[Worker], limit_bytes: int) -> Worker | None:
    """Whom to stop: of the first rank in which somebody holds much, the newest who does.

    Where nobody holds much, the same again with less asked; None when all hold next to nothing.
    """
    for least in (max(LITTLE_BYTES, limit_bytes // LITTLE_OF_LIMIT), LITTLE_BYTES):
        for rank in Rank:
            of_rank = [worker for worker in workers if worker.rank == rank]
            largest = max((worker.held_bytes for worker in of_rank), default=0)
            worth = max(least, largest // LITTLE_OF_LARGEST)
            found = [worker for worker in of_rank if worker.held_bytes >= worth]
            if found:
                return max(found, key=lambda worker: (worker.since_ns, worker.pid))
    return None


def runs_again(worker: Worker, retry_limit: int) -> bool:
    """Whether what this worker does is started again after the stop."""
    if worker.rank == Rank.ACTOR:
        return worker.restarts and worker.stops < retry_limit
    return worker.rank == Rank.RETRIABLE and worker.stops < retry_limit


@dataclass(frozen=True, slots=True)
class Pause:
    """Since when stopped tasks rest, and for how long: they start again one at a time."""

    since_ms: int = 0
    length_ms: int = 0

    @classmethod
    def after_stop(cls, now_ms: int, pause_ms: int, stops: int) -> "Pause":
        """`stops` counts the stops of this task before this one."""
        return cls(now_ms, min(pause_ms << min(stops, 16), LONGEST_PAUSES * pause_ms))

    @classmethod
    def after_start(cls, now_ms: int, pause_ms: int) -> "Pause":
        """One has started again; what it takes must show before the next does."""
        return cls(now_ms, pause_ms)

    def is_over(self, now_ms: int, room_bytes: int) -> bool:
        """Memory has come back, and the pause is over; or it has lasted far too long.

        Else a task would wait for ever where the memory is held by somebody who can't be stopped.
        """
        waited_ms = now_ms - self.since_ms
        return waited_ms >= (self.length_ms if room_bytes > 0 else PATIENCE_PAUSES * self.length_ms)
