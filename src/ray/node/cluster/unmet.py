"""What drivers, this node's and others', are told of demands that no node of the cluster can meet.

It is a line among what their tasks print, so a guest's goes to its driver as that does. When, decides
`ray.policy.cluster.unmet`.
"""

import contextlib
import os
from collections.abc import Callable, Mapping

from ray import _kernel
from ray.core.logs import of_job, open_log
from ray.core.resources import INFINITE
from ray.policy.cluster.placement import Amounts, Infeasible, NodeId
from ray.policy.cluster.unmet import Demand, Tell, UnmetDemands
from ray.session.record import SessionRecord
from ray.session.say import say

STDERR = 2
FEW = 4  # nodes whose amounts are listed one by one


class Unmet:
    def __init__(
        self,
        arena: _kernel.Arena,
        record: SessionRecord,
        stock: Callable[[], Mapping[NodeId, Amounts]],
        name_of: Callable[[NodeId], str],
    ) -> None:
        """`stock`: the nodes that take work, by what each has in all; none as long as they are not known."""
        self.arena = arena
        self.logs = record.logs
        self.custom = f"of {record.custom_resource_name or 'the custom resource'}"
        self.stock = stock
        self.name_of = name_of
        self._infeasible: tuple[Infeasible, ...] = ()
        self._demands = UnmetDemands()
        self._queues: dict[int, _Jobs] = {}

    def report(self, infeasible: tuple[Infeasible, ...]) -> None:
        """What the scheduler has found, the last time that it had tasks to place."""
        self._infeasible = infeasible

    def tick(self, tasks_wait: bool, now_ms: int) -> None:
        """To be called several times a second as long as tasks wait, and when they no longer do."""
        if not tasks_wait:
            self._infeasible = ()
        nodes = self.stock() if self._infeasible or self._demands else {}
        if not nodes:
            return
        jobs = {job for job, _ in self.arena.drivers()} | {job for job, _, _ in self.arena.guests()}
        waiting: set[Demand] = set()
        queues = {}
        for each in self._infeasible:
            queue = queues[each.shape] = self._queues.get(each.shape) or _Jobs()
            queue.look(self.arena, each.shape)
            waiting.update((job, each.needs) for job in queue.jobs & jobs)
        self._queues = queues
        for tell in self._demands.look(waiting, jobs, nodes, now_ms):
            self._tell(tell, nodes)

    def _tell(self, tell: Tell, nodes: Mapping[NodeId, Amounts]) -> None:
        needs = self._text(tell.needs)
        if tell.able is None:
            text = (
                f"tasks or actors wait that no node of the cluster can run: they need {needs}, and "
                f"{self._stock(nodes)}. They run when a node joins that can."
            )
        else:
            text = (
                f"what waited for {needs} runs now: node {self.name_of(tell.able)} can, which has "
                f"{self._text(nodes[tell.able])}."
            )
        say(f"job {tell.job}: {text}")
        with contextlib.suppress(OSError):
            log = open_log(self.logs, of_job(tell.job, STDERR))
            try:
                os.write(log, f"ray: {text}\n".encode())
            finally:
                os.close(log)

    def _stock(self, nodes: Mapping[NodeId, Amounts]) -> str:
        if len(nodes) > FEW:
            most = self._text(tuple(max(kind) for kind in zip(*nodes.values(), strict=True)))
            return f"none of the {len(nodes)} nodes has all of that (the most that one has is {most})"
        listed = [f"{self.name_of(node)} has {self._text(total)}" for node, total in nodes.items()]
        return ", ".join(listed) or "there is no node that takes work"

    def _text(self, amounts: Amounts) -> str:
        kinds = (("CPU", "CPUs"), ("GPU", "GPUs"), (self.custom, self.custom))
        said = []
        for amount, (one, more) in zip(amounts, kinds, strict=True):
            number = "any amount" if amount >= INFINITE // 2 else f"{amount / _kernel.UNIT:g}"
            if amount:
                said.append(f"{number} {one if amount == _kernel.UNIT else more}")
        return " and ".join(said) or "nothing"


class _Jobs:
    """Whose tasks lie in one queue. It may be long, so it is looked through in parts, again and again."""

    def __init__(self) -> None:
        self._before: set[int] = set()  # as of the last time to its end
        self._since: set[int] = set()
        self._place = (0, 0)

    def look(self, arena: _kernel.Arena, shape: int) -> None:
        found, self._place = arena.waiting_jobs(shape, self._place)
        self._since.update(found)
        if self._place == (0, 0):
            self._before, self._since = self._since, set()

    @property
    def jobs(self) -> set[int]:
        return self._before | self._since
