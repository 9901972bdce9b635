"""The head and the driver's node of a large cluster: members whose tasks are numbers.

Head, membership, scheduler and placement are the real ones, called as `benchmarks.scale.member` calls them.
"""

from collections.abc import Callable
from typing import Any

from benchmarks.scale.costs import Costs, node_id
from benchmarks.scale.crowd import HEAD, Crowd, Done, Given
from benchmarks.scale.loop import FRAME_HEAD_BYTES, Cores, Wires
from benchmarks.scale.member import CPU, SHAPE, TASK_US, WAKE_US, Member, size_of
from benchmarks.scale.workload import spread
from ray.wire import messages
from ray.wire.messages import Demand, Resources, View
from tests.simulator.world import World

LOST_TURN_US = 30_000_000  # five times what it takes until a node fences itself


class Ledger:
    """A node's tables, as numbers: what the driver has given and nobody has taken, and what runs here."""

    def __init__(self, world: World, cpus: int, length_us: int) -> None:
        self.world = world
        self.cpus = cpus
        self.length_us = length_us
        self.busy = 0
        self.left = 0
        self.given = 0
        self.ended = 0
        self.queued = False
        self.on_news: Callable[[], None] = lambda: None

    def give(self, count: int) -> None:
        self.left += count
        self.queued = True
        self.on_news()
        self.world.after(WAKE_US, self._take)

    def next_tasks(self, count: int) -> range:
        start, self.given = self.given, self.given + min(count, self.left)
        self.left -= self.given - start
        return range(start, self.given)

    def _take(self) -> None:
        while self.busy < self.cpus and self.left:
            self.busy += 1
            (task,) = self.next_tasks(1)
            self.world.after(round(self.length_us * spread(task)) + TASK_US, self._end)

    def _end(self) -> None:
        self.busy -= 1
        self.ended += 1
        self._take()

    def ready(self) -> int:
        return self.left

    def waiting(self) -> bool:
        return bool(self.left)

    def load(self, ready: int) -> tuple[Resources, Resources, list[Demand]]:
        demands = [Demand(Resources(CPU), ready)] if ready else []
        return Resources(CPU * self.cpus), Resources(CPU * (self.cpus - self.busy)), demands

    def queues(self) -> list[tuple[int, int, int, int, int, bool]]:
        return [(SHAPE, CPU, 0, 0, self.left, True)] if self.left else []

    def resources(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        return (CPU * self.cpus, 0, 0), (CPU * (self.cpus - self.busy), 0, 0)

    def news(self, most: int, timeout_ms: int) -> list[Any]:
        return []


class LedgerExchange:
    """What a member asks of its exchange, for tasks that are numbers."""

    is_leaving = False

    def __init__(self, ledger: Ledger, member: "LedgerMember") -> None:
        self.ledger = ledger
        self.member = member
        self.tasks = self.peers = self

    def send(self, node: bytes, shape: int, count: int) -> list[int]:
        tasks = self.ledger.next_tasks(count)
        if tasks:
            member = self.member
            member.spend("task_out", len(tasks))
            member.spent_us += member.costs.sent
            member.queue(node, Given(tasks), member.bytes.given * len(tasks))
        return list(tasks)

    def on_message(self, source: bytes, message: Done) -> list[int]:
        self.ledger.ended += len(message.tasks)
        self.member.queue(source, messages.Return([]), self.member.bytes.returned * len(message.tasks))
        return message.tasks

    def on_link_up(self, node: bytes) -> None:
        return

    def on_link_down(self, node: bytes) -> None:
        self.member.want_link(node)

    def on_death(self, node: bytes) -> list[Any]:
        return []

    def on_news(self, news: list[Any]) -> None:
        return

    def tick(self) -> None:
        return

    def want_links(self) -> None:
        return


class LedgerMember(Member):
    """The head, or the home of the driver."""

    def __init__(self, name: bytes, ledger: Ledger, crowd: "Crowd", wires: Wires, costs: Costs) -> None:
        self.crowd = crowd
        self.bytes = crowd.bytes
        tables: Any = ledger
        super().__init__(name, node_id(HEAD + 1), tables, crowd.world, wires, Cores(crowd.world, 1), costs)
        self._round = (0, 0)  # the number of the last View, and the bytes of it for all links
        self.round_bytes = 0  # the most of one

    def exchange_of(self, arena: Any) -> Any:
        return LedgerExchange(arena, self)

    def _place(self) -> None:
        """In a turn that is lost anyway, decisions cost what they cost, and are not carried out: else the
        simulation would take as long as they."""
        if self.spent_us < LOST_TURN_US:
            super()._place()
        elif self.tables.queues():
            self.traffic.placements += 1
            self.spent_us += self.costs.placed(len(self.scheduler.others))

    def _take_in(self, message: Any) -> None:
        if isinstance(message, Done):
            self.spend("result_in", len(message.tasks))
        else:
            super()._take_in(message)

    def send_all(self, nodes: list[bytes], message: messages.Message) -> None:
        """What it does at nodes of the crowd is a sum; here it costs what each does."""
        counted = [node for node in nodes if node not in self.wires.ends]
        super().send_all([node for node in nodes if node in self.wires.ends], message)
        assert isinstance(message, View)
        size = size_of(message)
        self.crowd.view(len(counted), len(message.nodes), size)
        in_frame = size + FRAME_HEAD_BYTES
        self.spent_us += len(counted) * (self.costs.frame_out + in_frame * self.costs.byte_out)
        self.traffic.messages += len(counted)
        self.traffic.frames += len(counted)
        self.traffic.frame_bytes += len(counted) * in_frame
        number, before = self._round
        self._round = message.number, len(nodes) * size + (before if number == message.number else 0)
        self.round_bytes = max(self.round_bytes, self._round[1])
