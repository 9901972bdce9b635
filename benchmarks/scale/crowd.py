"""Nodes that are only counted: rows of a table that take tasks, run them and report what they have free."""

from collections import deque
from dataclasses import dataclass
from typing import Any

from benchmarks.scale.costs import Costs, node_id
from benchmarks.scale.loop import FRAME_HEAD_BYTES, HOP_US, Wires
from benchmarks.scale.member import (
    BOOT_MS,
    BUSY_TICK_US,
    CPU,
    NEWS_US,
    PAUSE_US,
    STORE_BYTES,
    TASK_US,
    WAKE_US,
    size_of,
)
from benchmarks.scale.workload import Sizes, spread
from ray.node.cluster.loads import LOAD_REPEAT_MS
from ray.policy.cluster.views import LEAST_MS, least_ms
from ray.wire import messages
from ray.wire.messages import Inquiry, Load, Ping, Pong, Resources, Sighting
from tests.simulator.world import World

LOAD_REPEAT_US = 1_000 * LOAD_REPEAT_MS
HEAD, HOME = 0, 1  # of the nodes


@dataclass(frozen=True, slots=True)
class Given:
    """Tasks for a node."""

    tasks: range


@dataclass(frozen=True, slots=True)
class Done:
    """What a node has done of them."""

    tasks: list[int]


@dataclass(frozen=True, slots=True)
class Bytes:
    """On the wire, of one task: there, back, given back."""

    given: int
    done: int
    returned: int

    @classmethod
    def of(cls, sizes: Sizes) -> "Bytes":
        raw, owner = bytes(20), bytes(20)
        need = Resources(CPU)
        task = messages.Task(
            bytes(16), raw, owner, messages.Ref(raw, owner), bytes(sizes.payload), [], [], 1, need, 0, 3
        )
        result = messages.Result(raw, 0, bytes(sizes.result), sizes.result, [])
        return cls(
            size_of(messages.Run([task])),
            size_of(messages.Results([result])),
            size_of(messages.Return([(raw, 1)])),
        )


class Crowd:
    """All other nodes."""

    def __init__(
        self, world: World, wires: Wires, cpus: int, length_us: int, costs: Costs, sizes: Bytes
    ) -> None:
        self.world = world
        self.wires = wires
        self.cpus = cpus
        self.length_us = length_us
        self.costs = costs
        self.bytes = sizes
        self.rows: dict[bytes, Row] = {}
        self.views = 0.0
        self.view_bytes = 0.0
        self.view_us = 0.0
        self.loads = 0
        self.homes: list[bytes] = []  # nodes with drivers, to which all are linked
        self.longest_pong_us = 0  # that any of them has waited for the head's answer

    def add(self, name: bytes) -> "Row":
        row = self.rows[name] = Row(name)
        self.wires.living.add(name)
        self.world.after(self.world.random.randrange(LOAD_REPEAT_US), lambda: self._repeat(row))
        return row

    def kill(self, name: bytes) -> None:
        self.rows.pop(name).alive = False
        self.wires.living.discard(name)

    def view(self, readers: int, said: int, size: int) -> None:
        """So many of them get one that says something of so many nodes. Counted for each of all."""
        part = readers / max(1, len(self.rows))
        self.views += part
        self.view_bytes += part * size
        self.view_us += part * (
            self.costs.turn
            + self.costs.frame_in
            + size * self.costs.byte_in
            + self.costs.view_decoded(said)
            + self.costs.view_taken(said)
            + self.costs.view_confirmed(len(self.rows))
        )

    def load_of(self, row: "Row") -> Load:
        row.number += 1
        free = Resources(CPU * (self.cpus - row.busy))
        return Load(row.number, Resources(CPU * self.cpus), free, [], STORE_BYTES, 0)

    def arrived(self, source: bytes, name: bytes, received: list[Any]) -> None:
        row = self.rows.get(name)
        if row is None:
            return
        row.cpu_us += self.costs.turn + self.costs.frame_in
        answers: list[messages.Message] = []
        for message in received:
            if isinstance(message, Given):
                row.waiting.extend(message.tasks)
                row.cpu_us += self.costs.task_in(len(message.tasks))
                self._begin(row, WAKE_US)
            elif isinstance(message, Ping):
                answers.append(Pong(message.number))
            elif isinstance(message, Pong) and source == node_id(HEAD + 1):
                waited_us = self.world.now_us - 1_000 * (message.number - BOOT_MS)
                self.longest_pong_us = max(self.longest_pong_us, waited_us)
            elif isinstance(message, Inquiry):
                answers.append(Sighting(message.about, None))
        if answers:
            self._send(row, source, answers, PING_BYTES * len(answers))

    def _begin(self, row: "Row", delay_us: int) -> None:
        before = row.busy
        while row.busy < self.cpus and row.waiting:
            row.busy += 1
            task = row.waiting.popleft()
            if row.begun_us is None:
                row.begun_us = self.world.now_us + delay_us
            length_us = round(self.length_us * spread(task))
            self.world.after(delay_us + length_us + TASK_US, lambda task=task: self._end(row, task))
        if row.busy != before:
            self._look_soon(row)

    def _end(self, row: "Row", task: int) -> None:
        if not row.alive:
            return
        row.busy -= 1
        row.done.append(task)
        self._begin(row, 0)
        self._look_soon(row)
        if len(row.done) == 1:
            due_us = max(self.world.now_us + NEWS_US, row.armed_us)
            self.world.after(due_us - self.world.now_us, lambda: self._tell(row))

    def _tell(self, row: "Row") -> None:
        if not row.alive:
            return
        done, row.done = row.done, []
        if row.waiting:
            row.armed_us = self.world.now_us + PAUSE_US
        row.cpu_us += self.costs.turn + self.costs.result_out(len(done))
        self._send(row, node_id(HOME + 1), [Done(done)], self.bytes.done * len(done))

    def _look_soon(self, row: "Row") -> None:
        """A node looks at itself at once when it has rested, else after a pause."""
        if not row.looks:
            row.looks = True
            due_us = max(self.world.now_us + NEWS_US, row.looked_us + BUSY_TICK_US)
            self.world.after(due_us - self.world.now_us, lambda: self._look(row))

    def _look(self, row: "Row") -> None:
        row.looks = False
        row.looked_us = self.world.now_us
        if not row.alive or row.busy == row.reported:
            return
        if self.world.now_us - row.sent_us >= 1_000 * (least_ms(len(self.rows)) - LEAST_MS):
            self._report(row)
        else:
            self._look_soon(row)

    def _repeat(self, row: "Row") -> None:
        if not row.alive or row.name in self.wires.silent:
            return
        ping = Ping(BOOT_MS + self.world.now_us // 1_000)
        if self.world.now_us - row.sent_us >= LOAD_REPEAT_US - BUSY_TICK_US:
            self._report(row, ping)
        else:
            self._send(row, node_id(HEAD + 1), [ping], PING_BYTES)
        for home in self.homes:
            self._send(row, home, [ping], PING_BYTES)
        self.world.after(LOAD_REPEAT_US, lambda: self._repeat(row))

    def _report(self, row: "Row", *more: messages.Message) -> None:
        row.reported = row.busy
        row.sent_us = self.world.now_us
        row.cpu_us += self.costs.look.first
        self.loads += 1
        sent = [self.load_of(row), *more]
        self._send(row, node_id(HEAD + 1), sent, LOAD_BYTES + PING_BYTES * len(more))

    def _send(self, row: "Row", target: bytes, sent: list[Any], size: int) -> None:
        row.cpu_us += self.costs.frame_out
        row.messages += len(sent)
        row.sent_bytes += size + FRAME_HEAD_BYTES
        self.wires.carry(row.name, target, sent, size)


PING_BYTES = size_of(Ping(BOOT_MS))
LOAD_BYTES = size_of(Load(1, Resources(CPU), Resources(CPU), [], STORE_BYTES, STORE_BYTES))


class Row:
    """One node of the crowd."""

    __slots__ = (
        "alive", "armed_us", "begun_us", "busy", "cpu_us", "done", "looked_us", "looks", "messages", "name",
        "number", "reported", "sent_bytes", "sent_us", "waiting",
    )  # fmt: skip

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.alive = True
        self.busy = 0
        self.reported = 0
        self.waiting: deque[int] = deque()
        self.done: list[int] = []
        self.looks = False
        self.looked_us = 0
        self.armed_us = 0  # until then nobody is told of results
        self.sent_us = 0
        self.number = 0
        self.begun_us: int | None = None
        self.messages = 0
        self.sent_bytes = 0
        self.cpu_us = 0.0


class CrowdWires(Wires):
    """Links of the head and the home, with each other and with the crowd."""

    crowd: Crowd

    def carry(self, source: bytes, target: bytes, messages: list[Any], size: int) -> None:
        if target in self.ends:
            end = self.ends[target]
            if source not in self.silent:
                self.world.after(HOP_US, lambda: end.arrived(source, messages, size))
        elif target not in self.silent:
            self.world.after(HOP_US, lambda: self.crowd.arrived(source, target, messages))
