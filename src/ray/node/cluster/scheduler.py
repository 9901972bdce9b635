"""This node's tasks to other nodes: what the policy decides, done."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from ray import _kernel
from ray.node.cluster.tasks import Tasks
from ray.policy.cluster.placement import (
    STALE_MS,
    WORTH_MOVING_BYTES,
    Amounts,
    Here,
    Infeasible,
    Other,
    Placement,
    Queue,
    Send,
    place,
    slots,
)
from ray.wire.messages import NodeState, Resources, View

PATIENCE_MS = 500  # for a view that says what others have free
SMOOTHING = 0.3  # weight of the newest observation of how long tasks take
# So much work lies at another node. It covers the way there and back, and what gathers before results are
# told of (`bell.PAUSE_S`), with half of it left. It must be more than that, or short tasks, whose first
# observations are all round trip, would never be seen to be short.
COVERED_MS = 100.0
# Among many nodes each is sent more at a time, or this one would spend itself on messages: with 1,000 of them
# and tasks of 0.1 s two thirds of all CPUs were at work with the least, and all with this, in the simulation
# that `make scale` runs.
COVERED_MS_A_NODE, COVERED_MOST_MS = 0.4, 1_000.0


@dataclass(slots=True)
class Pace:
    """How fast one node does this node's tasks of one shape."""

    slots: int = 1
    last_ms: float = 0.0
    task_ms: float | None = None

    def finished(self, count: int, now_ms: float) -> None:
        """So many came back together. What came before the first is not known, so that only sets the
        clock."""
        if self.last_ms:
            observed = (now_ms - self.last_ms) * self.slots / count
            self.task_ms = (
                observed if self.task_ms is None else self.task_ms + SMOOTHING * (observed - self.task_ms)
            )
        self.last_ms = now_ms


@dataclass(slots=True)
class Elsewhere:
    """Another node as it was reported, and what has been sent and done since."""

    state: NodeState
    seen_ms: float
    ours: dict[bytes, int] = field(default_factory=dict)  # tasks under way there: their shape
    ours_need: Amounts = (0, 0, 0)  # all together
    needs: dict[int, Amounts] = field(default_factory=dict)  # of one task of a shape
    unreported: int = 0
    paces: defaultdict[int, Pace] = field(default_factory=lambda: defaultdict(Pace))

    def sent(self, tasks: list[bytes], shape: int, needs: Amounts) -> None:
        self.ours.update(dict.fromkeys(tasks, shape))
        self.needs[shape] = needs
        self._count(shape, len(tasks))

    def finished(self, tasks: list[bytes]) -> dict[int, int]:
        """How many of each shape; without those that are not known to be there."""
        counts: dict[int, int] = defaultdict(int)
        for task in tasks:
            shape = self.ours.pop(task, None)
            if shape is not None:
                counts[shape] += 1
        for shape, count in counts.items():
            self._count(shape, -count)
        return counts

    def forget(self) -> None:
        self.ours.clear()
        self.ours_need, self.unreported = (0, 0, 0), 0

    def _count(self, shape: int, more: int) -> None:
        self.unreported += more
        self.ours_need = tuple(
            all_need + more * needs for all_need, needs in zip(self.ours_need, self.needs[shape], strict=True)
        )


class Scheduler:
    def __init__(
        self,
        arena: _kernel.Arena,
        node: bytes,
        tasks: Tasks,
        is_linked: Callable[[bytes], bool],
        want_link: Callable[[bytes], None],
        report: Callable[[tuple[Infeasible, ...]], None],
    ) -> None:
        self.arena = arena
        self.node = node
        self.tasks = tasks
        self.is_linked = is_linked
        self.want_link = want_link
        self.report = report
        self.others: dict[bytes, Elsewhere] = {}
        self.turn = 0
        self._is_blind = False  # the head says what others have free to those only that have tasks to place
        self._asked_ms = 0.0

    def on_view(self, view: View, now_ms: float) -> None:
        self.turn = view.number
        said = {state.node_id: state for state in view.nodes if state.node_id != self.node}
        for node in self.others.keys() - said.keys() if not view.since else view.dead:
            self.others.pop(node, None)
        for node, state in said.items():
            known = self.others.get(node)
            if known is None:
                self.others[node] = Elsewhere(state, now_ms)
            else:
                known.state = state
        if view.loads:  # of whom nothing is said, nothing has changed
            for known in self.others.values():
                known.seen_ms, known.unreported = now_ms, 0
        self._is_blind = not view.loads

    def on_finished(self, node: bytes, tasks: list[bytes], now_ms: float) -> None:
        """Tasks of this node that are done there."""
        other = self.others.get(node)
        if other is None:
            return
        for shape, count in other.finished(tasks).items():
            other.paces[shape].finished(count, now_ms)

    def forget_ours(self, node: bytes | None = None) -> None:
        """Of what is at that node, or anywhere, not every end will be told: a driver has ended, or a link was
        lost and some never got there. Counted on, those would be thought to wait there for ever; uncounted,
        what goes on there is thought to be less than it is, until it ends.
        """
        for other in self.others.values() if node is None else filter(None, [self.others.get(node)]):
            other.forget()

    def avoid(self, node: bytes) -> None:
        """It takes no work any more; the head is about to say the same."""
        if node in self.others:
            other = self.others[node]
            other.state = msgspec.structs.replace(other.state, draining=True)

    @property
    def has_tasks_away(self) -> bool:
        return any(other.ours for other in self.others.values())

    def stock(self) -> dict[bytes, tuple[int, int, int]]:
        """All that each node has which takes work, this one among them; empty before the first view."""
        if not self.turn:
            return {}
        total, _ = self.arena.resources()
        others = {
            node: _amounts(other.state.total)
            for node, other in self.others.items()
            if not other.state.draining
        }
        return {self.node: (total[0], total[1], total[2])} | others

    def place(self, now_ms: float) -> bool:
        """Sends what is better off elsewhere. Whether anything was."""
        queues = [
            Queue(shape, (cpu, gpu, custom), ready, self._task_ms(shape))
            for shape, cpu, gpu, custom, ready, _ in self.arena.queues()
            if ready
        ]
        if not queues or self._waits_for_view(now_ms):
            return False
        placement = self._decide(queues, self.others, now_ms)
        needs = {queue.shape: queue.needs for queue in queues}
        went = False
        for send in placement.sends:
            if not self.is_linked(send.node):
                self.want_link(send.node)
                continue
            sent = self.tasks.send(send.node, send.shape, send.count)
            self._note(send, sent, needs[send.shape])
            went = went or bool(sent)
        if not self.tasks.is_leaving:  # what fits nowhere else is still done here
            self.report(placement.infeasible)
        return went

    def _waits_for_view(self, now_ms: float) -> bool:
        """The head is about to say what others have free, as it hears with the next load that tasks wait
        here."""
        if not self._is_blind:
            return False
        if now_ms - self._asked_ms > STALE_MS:
            self._asked_ms = now_ms
        return now_ms - self._asked_ms < PATIENCE_MS

    def follow(self, oid: _kernel.ObjectID, node: bytes, size_bytes: int, now_ms: float) -> bool:
        """Tasks wait for a value that is stored at that node, and for nothing else: they go there, instead of
        the value coming here, if it is large and the node free for them. Whether any went."""
        if size_bytes < WORTH_MOVING_BYTES or node not in self.others or not self.is_linked(node):
            return False
        queues = [
            Queue(shape, (cpu, gpu, custom), waiting, self._task_ms(shape), {node: size_bytes})
            for shape, cpu, gpu, custom, waiting, _ in self.arena.followers(oid)
        ]
        needs = {queue.shape: queue.needs for queue in queues}
        went = False
        for send in self._decide(queues, {node: self.others[node]}, now_ms).sends:
            sent = self.tasks.send_followers(node, oid, send.shape, send.count)
            self._note(send, sent, needs[send.shape])
            went = went or bool(sent)
        return went

    def _decide(self, queues: list[Queue], nodes: dict[bytes, Elsewhere], now_ms: float) -> Placement:
        total, free = self.arena.resources()
        covered_ms = max(COVERED_MS, min(COVERED_MOST_MS, COVERED_MS_A_NODE * len(self.others)))
        others = [
            Other(
                node,
                _amounts(other.state.total),
                _amounts(other.state.free),
                other.state.ready,
                int(now_ms - other.seen_ms),
                len(other.ours),
                other.unreported,
                covered_ms,
                draining=other.state.draining,
                ours_need=other.ours_need,
            )
            for node, other in nodes.items()
        ]
        return place(Here(self.node, total, free, self.tasks.is_leaving, self.turn), queues, others)

    def _note(self, send: Send, sent: list[bytes], needs: Amounts) -> None:
        """These have been sent."""
        other = self.others[send.node]
        if not other.ours:
            other.paces[send.shape].last_ms = 0.0
        other.sent(sent, send.shape, needs)
        other.paces[send.shape].slots = max(1, slots(_amounts(other.state.total), needs))

    def _task_ms(self, shape: int) -> float | None:
        known = [
            pace.task_ms
            for other in self.others.values()
            if shape in other.paces and (pace := other.paces[shape]).task_ms is not None
        ]
        return min(known) if known else None


def _amounts(resources: Resources) -> tuple[int, int, int]:
    return resources.cpu, resources.gpu, resources.custom
