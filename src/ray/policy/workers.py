"""How many workers a node forks, and how many idle ones it lets go."""

from dataclasses import dataclass

FORK_BURST = 32  # forked before the template looks at its children and the demand again


@dataclass(frozen=True, slots=True)
class WorkerDemand:
    """What a template knows when it decides. Counts of worker processes, except `ready`."""

    ready: int  # tasks that could start now: their resources are free
    idle: int  # workers that wait for a task
    total: int  # workers that have joined the arena
    starting: int  # forked, but not in the arena yet: each will take a task
    floor: int  # kept whether there is work or not (`num_workers`)
    limit: int  # never more than this


def to_fork(demand: WorkerDemand) -> int:
    """How many workers to fork now, at most `FORK_BURST`.

    Idle and starting workers take a ready task each; the floor is never a limit on parallelism.
    """
    alive = demand.total + demand.starting
    for_work = demand.ready - demand.idle - demand.starting
    for_floor = demand.floor - alive
    room = demand.limit - alive
    return max(0, min(max(for_work, for_floor), room, FORK_BURST))


@dataclass(frozen=True, slots=True)
class Surplus:
    """Idle workers above the number wanted, and the time since when there has been one, if any."""

    since_ms: int | None = None

    def update(self, demand: WorkerDemand, wanted: int, now_ms: int, keep_ms: int) -> tuple["Surplus", int]:
        """The state from now on, and how many idle workers to let go.

        `wanted` workers stay, idle or not; others are kept for `keep_ms`, since the next burst may need them.
        """
        extra = min(demand.idle, demand.total - max(wanted, demand.floor))
        if extra <= 0 or demand.ready > 0:
            return Surplus(), 0
        if self.since_ms is None:
            return Surplus(now_ms), 0
        if now_ms - self.since_ms < keep_ms:
            return self, 0
        return Surplus(), extra
