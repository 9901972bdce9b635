"""What a node tells the head of itself: what it has, what of it is free, and what waits."""

from collections.abc import Callable

from ray import _kernel
from ray.node.cluster.standing import Standing
from ray.policy.cluster.views import LEAST_MS, least_ms
from ray.wire.messages import Demand, Load, Resources

LOAD_REPEAT_MS = 1_000  # a load is sent this often even if nothing has changed: the node is there


class Loads:
    def __init__(self, arena: _kernel.Arena, standing: Standing, is_leaving: Callable[[], bool]) -> None:
        self.arena = arena
        self.standing = standing
        self.is_leaving = is_leaving
        self.has_changed = True  # what it is now, since it was told of
        self._number = 0
        self._told: Load | None = None
        self._told_ms = 0

    def begin_anew(self) -> None:
        """The head has a new link: it may know nothing of this node."""
        self._told = None

    def look(self, stats: dict[str, int]) -> Load:
        """As it is now."""
        self._number += 1
        queues = self.arena.queues() if stats["ready_tasks"] else []
        last = self._told
        load = Load(
            self._number,
            Resources(stats["cpu_total"], stats["gpu_total"], stats["custom_total"]),
            Resources(stats["cpu_free"], stats["gpu_free"], stats["custom_free"]),
            [Demand(Resources(cpu, gpu, custom), ready) for _, cpu, gpu, custom, ready, _ in queues],
            stats["heap_capacity_bytes"],
            stats["heap_used_bytes"],
            self.is_leaving(),
            self.standing.known_dead() if last is None else [],
        )
        self.has_changed = last is None or (last.free, last.demands, last.draining) != (
            load.free,
            load.demands,
            load.draining,
        )
        return load

    def is_due(self, load: Load, now_ms: int) -> bool:
        """Who begins to have tasks to place waits for what others have free; the rest may be late, in a large
        cluster."""
        last = self._told
        if last is None or bool(last.demands) != bool(load.demands) or last.draining != load.draining:
            return True
        nodes = len(self.standing.present)
        since_ms = now_ms - self._told_ms
        return since_ms >= LOAD_REPEAT_MS or (self.has_changed and since_ms >= least_ms(nodes) - LEAST_MS)

    def told(self, load: Load, now_ms: int) -> None:
        self._told = load
        self._told_ms = now_ms
