"""One node of a run: its arena, its engine, workers that run programs, and a driver that uses all of it at
random.

The engine is whatever speaks the protocol: it is made by a function, and made again when the node manager is
killed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.simulator.model_arena import (
    SMALL_BYTES,
    THIS_NODE,
    Entry,
    ModelArena,
    ModelObjectID,
    News,
    Task,
    Value,
)
from tests.simulator.network import Network
from tests.simulator.world import World

NEWS_US = 100  # until the node manager has read its news, at most
TIMER_US = 5_000
SENT = 0.7  # of the tasks, as soon as they are submitted
NESTED = (0, 1, 1, 2)  # ids in a value or a task: one of these many


class Engine(Protocol):
    """A node manager's part in the protocol."""

    retry: list[bytes]

    def on_link_up(self, node: bytes) -> None: ...
    def on_link_down(self, node: bytes) -> None: ...
    def on_message(self, node: bytes, message: Any) -> None: ...
    def on_news(self, news: list[News]) -> None: ...
    def on_timer(self) -> None: ...
    def on_death(self, node: bytes) -> None: ...
    def send_tasks(self, node: bytes, count: int) -> int: ...


@dataclass(slots=True)
class Watch:
    """What all nodes of a run together must never do."""

    world: World
    problems: list[str] = field(default_factory=list)
    owners: dict[bytes, bytes] = field(default_factory=dict)  # of each object, the node that made it
    seen: dict[bytes, bytes] = field(default_factory=dict)  # value of each object, as first read
    changed: set[bytes] = field(default_factory=set)  # read with two values
    executions: dict[bytes, int] = field(default_factory=dict)
    deaths: int = 0
    lost: set[bytes] = field(default_factory=set)  # read as failures
    waits_begun: int = 0
    waits_ended: int = 0

    def problem(self, text: str) -> None:
        self.problems.append(text)
        self.world.tell(lambda: f"PROBLEM: {text}")


class Machine:
    """One node."""

    def __init__(
        self,
        name: bytes,
        world: World,
        network: Network,
        watch: Watch,
        arena: ModelArena,
        make_engine: Callable[["Machine"], Engine],
        slots: int = 2,
    ) -> None:
        self.name = name
        self.world = world
        self.network = network
        self.watch = watch
        self.arena = arena
        self.alive = True
        self.held: list[ModelObjectID] = []  # by the driver
        self.waits: list[ModelObjectID] = []
        self.dead: set[bytes] = set()  # nodes that this one knows to be dead
        self.others: list[Machine] = []
        self._slots = slots
        self._busy = 0
        self._count = 0
        self._news_due = False
        self._timer_due = False
        self._make_engine = make_engine
        arena.on_news = self._news_soon
        arena.on_ready = self._work_soon
        arena.on_freed = self._freed
        arena.on_sealed = self._sealed
        self.engine = make_engine(self)
        network.join(name, self)

    # --- the network's end ---

    def on_link_up(self, node: bytes) -> None:
        self.engine.on_link_up(node)
        self._after_event()

    def on_link_down(self, node: bytes) -> None:
        self.engine.on_link_down(node)
        self._after_event()

    def on_message(self, node: bytes, message: Any) -> None:
        self.engine.on_message(node, message)
        self._after_event()

    def on_death(self, node: bytes) -> None:
        """The head has declared it dead."""
        if self.alive:
            self.world.tell(lambda: f"{self.name!r}: hears that {node!r} is dead")
            self.dead.add(node)
            self.engine.on_death(node)
            self._after_event()

    def end_loans(self, node: bytes, number: int) -> None:
        if self.alive:
            self.world.tell(lambda: f"{self.name!r}: ends what it has lent to {node!r}")
            self.arena.end_loans(number)
            self._after_event()

    def kill(self) -> None:
        self.world.tell(lambda: f"{self.name!r}: killed")
        self.alive = False
        self.arena.close()
        self.network.leave(self.name)
        self.watch.waits_begun -= len(self.waits)
        self.held.clear()
        self.waits.clear()

    def restart_manager(self) -> None:
        """The node manager is killed, and another one goes on with the same arena."""
        self.world.tell(lambda: f"{self.name!r}: node manager restarted")
        for other in self.others:
            if other.alive:
                self.network.break_link(self.name, other.name)
        # What its process held by ObjectIDs goes with it.
        self.engine = self._make_engine(self)
        self.arena.renew_all_wanted()
        for other in self.others:
            self.network.forget(other.name, self.name)
            self.network.want_link(self.name, other.name)
        self._after_event()

    def _after_event(self) -> None:
        self.watch.problems += self.arena.problems
        self.arena.problems.clear()
        if self.engine.retry and not self._timer_due:
            self._timer_due = True
            self.world.after(TIMER_US, self._timer)

    def _timer(self) -> None:
        self._timer_due = False
        if self.alive:
            self.engine.on_timer()
            self._after_event()

    def _news_soon(self) -> None:
        if not self._news_due:
            self._news_due = True
            self.world.after(self.world.random.randrange(1, NEWS_US), self._read_news)

    def _read_news(self) -> None:
        self._news_due = False
        if self.alive:
            self.engine.on_news(self.arena.news())
            self._after_event()

    # --- workers ---

    def _work_soon(self) -> None:
        self.world.after(self.world.random.randrange(1, 500), self._work)

    def _work(self) -> None:
        if not self.alive or self._busy >= self._slots:
            return
        task = self.arena.take()
        if task is None:
            return
        self._busy += 1
        self.world.tell(lambda: f"{self.name!r}: runs {task.id!r}, attempt {task.attempt}")
        known = [self.arena.hold(key) for key in (*task.deps, *task.nested)]
        for key in task.deps:
            known += self._read(known[task.deps.index(key)])
        self.world.after(self.world.random.randrange(100, 5_000), lambda: self._finish(task, known))

    def _finish(self, task: Task, known: list[ModelObjectID]) -> None:
        self._busy -= 1
        if not self.alive:
            return
        random = self.world.random
        if random.random() < 0.4:
            known.append(self._put(known))
        if random.random() < 0.2 and len(task.id) < 24:
            known += self._submit(known)
        results = []
        for _ in task.returns:
            nested = random.sample(known, min(len(known), random.choice(NESTED)))
            results.append(self._value(nested))
        if self.arena.finish(task, results):
            self.watch.executions[task.id] = self.watch.executions.get(task.id, 0) + 1
        known.clear()
        self._work_soon()
        self._after_event()

    # --- programs ---

    def _label(self, kind: str) -> bytes:
        self._count += 1
        return f"{self.name.decode()}-{kind}{self._count}".encode()

    def _value(self, nested: list[ModelObjectID]) -> Value:
        size = self.world.random.choice((10, 10, 10 * SMALL_BYTES))
        return Value(0, self._label("value"), size, tuple(each.binary() for each in nested))

    def _put(self, known: list[ModelObjectID]) -> ModelObjectID:
        random = self.world.random
        nested = random.sample(known, min(len(known), random.choice(NESTED)))
        value = self._value(nested)
        key = self._label("put")
        self.watch.owners[key] = self.name
        return self.arena.put(key, value.data, value.size, nested)

    def _submit(self, known: list[ModelObjectID]) -> list[ModelObjectID]:
        random = self.world.random
        deps = random.sample(known, min(len(known), random.choice((0, 1, 2))))
        nested = random.sample(known, min(len(known), random.choice(NESTED)))
        returns = self.arena.submit(
            self._label("task"), b"", deps, nested, random.choice((1, 1, 2)), retries=5
        )
        for oid in returns:
            self.watch.owners[oid.binary()] = self.name
        return returns

    def _read(self, oid: ModelObjectID) -> list[ModelObjectID]:
        """What a value that is here contains."""
        value = self.arena.value(oid)
        key = oid.binary()
        if value.is_failure:
            self.watch.lost.add(key)
            if not self.watch.deaths:
                self.watch.problem(f"{self.name!r}: {key!r} is {value.data!r}, and no node has died")
        elif self.watch.seen.setdefault(key, value.data) != value.data:
            self.watch.changed.add(key)
            if not self.watch.deaths:
                self.watch.problem(
                    f"{self.name!r}: {key!r} was {self.watch.seen[key]!r} and is {value.data!r}"
                )
        return [self.arena.hold(each) for each in value.nested]

    def step(self) -> None:
        """The driver does something."""
        if not self.alive:
            return
        random = self.world.random
        choice = random.random()
        if choice < 0.15:
            self.held.append(self._put(self.held))
        elif choice < 0.45:
            self.held += self._submit(self.held)
            if random.random() < SENT:
                self._send_tasks()
        elif choice < 0.65 and self.held:
            self._wait(random.choice(self.held))
        elif choice < 0.9 and self.held:
            self.held.pop(random.randrange(len(self.held)))
        else:
            self._send_tasks()
        self._after_event()

    def _send_tasks(self) -> None:
        """As a scheduler would, to anybody."""
        other = self.world.random.choice(self.others)
        if other.alive and other.name not in self.dead and self.arena.ready():
            self.engine.send_tasks(other.name, self.world.random.randint(1, 3))

    def _wait(self, oid: ModelObjectID) -> None:
        self.watch.waits_begun += 1
        if self.arena.is_ready(oid):
            self.watch.waits_ended += 1
            self.held += self._read(oid)
        else:
            self.arena.await_value(oid)
            self.waits.append(oid)

    def _sealed(self, key: bytes, entry: Entry) -> None:
        if any(oid.binary() == key for oid in self.waits):
            self.world.after(1, self._end_waits)

    def _end_waits(self) -> None:
        if not self.alive:
            return
        ended = [oid for oid in self.waits if self.arena.is_ready(oid)]
        self.waits = [oid for oid in self.waits if not self.arena.is_ready(oid)]
        for oid in ended:
            self.watch.waits_ended += 1
            self.held += self._read(oid)

    # --- checks ---

    def _freed(self, key: bytes, entry: Entry) -> None:
        self.world.tell(lambda: f"{self.name!r}: {key!r} is freed")
        if entry.owner != THIS_NODE or self.watch.owners.get(key) != self.name:
            return
        for other in self.others:
            there = other.arena.entry(key) if other.alive and self.name not in other.dead else None
            if there is None or other.name in self.dead or other.arena.node_of(there.owner) != self.name:
                continue
            if there.references > there.loans[there.owner]:
                self.watch.problem(f"{self.name!r}: {key!r} is freed, and {other.name!r} has it")
