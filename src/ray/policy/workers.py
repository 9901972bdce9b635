"""How many workers a node forks, for work and ahead of it, and how many idle ones it lets go."""

from dataclasses import dataclass, replace

FORK_BURST = 32  # forked before the template looks at its children and the demand again
BURST_GAP_MS = 500  # forks that are further apart are not of one burst


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
class Burst:
    """The last time that many workers were taken at once: how many, and when.

    Who creates twenty actors is likely to create as many again, and an actor waits for a worker that must
    be forked several times as long as for one that is there: so as many as a burst took are forked ahead of
    the next.
    """

    size: int = 0
    at_ms: int = 0
    high: int = 0  # workers to spare before it
    low: int = 0  # and at its lowest, less those that tasks waited for
    fell_ms: int = 0

    def update(self, demand: WorkerDemand, cpus: int, now_ms: int) -> "Burst":
        """The burst as of now; as many as the node's own workers, one for each of `cpus`, are none."""
        level = demand.idle + demand.starting - demand.ready
        state = self
        if now_ms - self.fell_ms > BURST_GAP_MS:
            before = max(level, self.low)
            state = replace(state, high=before, low=before)
        if level > state.high:
            return replace(state, high=level, low=level)
        if level >= state.low:
            return state
        state = replace(state, low=level, fell_ms=now_ms)
        taken = state.high - level
        return replace(state, size=taken, at_ms=now_ms) if taken > cpus else state

    def to_fork_ahead(self, demand: WorkerDemand, now_ms: int, keep_ms: int) -> int:
        """How many workers are worth forking though nothing waits for them.

        None `keep_ms` after a burst: by then idle workers are let go.
        """
        if demand.ready or now_ms - self.at_ms >= keep_ms:
            return 0
        missing = min(self.size, FORK_BURST) - demand.idle - demand.starting
        return max(0, min(missing, demand.limit - demand.total - demand.starting))


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
