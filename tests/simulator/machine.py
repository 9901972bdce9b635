"""One node of a run: its arena, its exchange, workers that run programs, and a driver that uses all of it at
random.

What a node manager has beside the exchange (links, transfers, jobs) is the machine itself.
"""

import contextlib
import io
import traceback
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ray import _kernel
from ray.node.cluster.draining import Departure, Takeover
from ray.node.cluster.exchange import Exchange
from ray.session.record import SessionRecord
from ray.wire import messages
from tests.simulator.model_actors import Kind, base_of, is_actor
from tests.simulator.model_arena import (
    SMALL_BYTES,
    THIS_NODE,
    Data,
    Entry,
    Large,
    ModelArena,
    ModelObjectID,
    Task,
    Value,
)
from tests.simulator.network import Network
from tests.simulator.world import World

NEWS_US = 100  # until the node manager has read its news, at most
NEWS_AT_ONCE = 100
TICK_US = 5_000
PULL_US = 10_000  # of a large value, at most
PULL_FAILS = 0.1
GRACE_US = 300_000  # after the death of a node is known, until its loans end
DRAIN_MS = 1_000_000  # longer than any run: it must end by itself
SHAPE = 0
LOST = _kernel.OBJECT_LOST.to_bytes(4, "little")
SENT = 0.7  # of the tasks, as soon as they are submitted
NESTED = (0, 1, 1, 2)  # ids in a value or a task: one of these many


@dataclass(slots=True)
class Calls:
    """Of all actors: each caller's run in the order in which it made them, and none of them twice."""

    made: dict[bytes, tuple[bytes, Hashable, int]] = field(
        default_factory=dict
    )  # actor, caller, the how-manyth
    ran: dict[tuple[bytes, Hashable], int] = field(default_factory=dict)  # the last

    def make(self, call: bytes, actor: bytes, caller: Hashable) -> None:
        self.made[call] = actor, caller, len(self.made)

    def run(self, call: bytes) -> str | None:
        """What is wrong with it."""
        actor, caller, number = self.made[call]
        last = self.ran.get((actor, caller), -1)
        self.ran[actor, caller] = number
        if number > last:
            return None
        return f"{call!r} of {caller!r} to {actor!r} {'has run before' if number == last else 'is late'}"


@dataclass(slots=True)
class Watch:
    """What all nodes of a run together must never do."""

    world: World
    problems: list[str] = field(default_factory=list)
    owners: dict[bytes, bytes] = field(default_factory=dict)  # of each object, the node that made it
    seen: dict[bytes, Data] = field(default_factory=dict)  # value of each object, as first read
    changed: set[bytes] = field(default_factory=set)  # read with two values
    executions: dict[bytes, int] = field(default_factory=dict)
    deaths: int = 0
    lost: set[bytes] = field(default_factory=set)  # read as failures
    killed: set[bytes] = field(default_factory=set)  # actors, by their programs
    calls: Calls = field(default_factory=Calls)
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
        slots: int = 2,
        actors: bool = False,
    ) -> None:
        """`actors`: its programs make some, and call them."""
        self.name = name
        self.world = world
        self.network = network
        self.watch = watch
        self.arena = arena
        self.alive = True
        self.held: list[ModelObjectID] = []  # by the driver
        self.waits: list[ModelObjectID] = []
        self.dead: list[bytes] = []  # nodes that this one knows to be dead
        self.others: list[Machine] = []
        self._buried_us: dict[bytes, int] = {}  # when this node heard of which death
        self._sealed_us: dict[bytes, int] = {}  # since when which value is here
        self._kept: list[list[ModelObjectID]] = []  # what dead nodes had been lent
        self._pulls: dict[int, list[ModelObjectID]] = {}  # under way, and what they hold
        self._slots = slots
        self._with_actors = actors
        self._busy = 0
        self._count = 0
        self._news_due = False
        self._tick_due = False
        arena.on_news = self._news_soon
        arena.on_ready = self._work_soon
        arena.on_call = self._call_soon
        arena.on_freed = self._freed
        arena.on_sealed = self._sealed
        self.exchange = self._make_exchange()
        self._make_leaving()
        network.join(name, self)

    def _make_exchange(self) -> Exchange:
        arena: Any = self.arena  # as good as a real one, its ObjectIDs as well
        transfers: Any = self
        return Exchange(arena, self.name, self, transfers, self)

    def _make_leaving(self) -> None:
        """What its exchange has to do with nodes that leave, this one among them."""
        arena: Any = self.arena
        by_ms = SessionRecord.load(arena.session()).leaves_by_ms
        self.takeover = Takeover(self.exchange, self._tell)
        self.departure = Departure(
            arena, self.exchange, self._tell, self._leave, by_ms, lambda: self.world.now_us / 1e6
        )

    def _tell(self, node: bytes, message: messages.Message) -> None:
        peer = self.exchange.peers.by_node.get(node)
        if peer is not None and peer.up:
            self.send(node, message)

    # --- the network's end ---

    def on_link_up(self, node: bytes) -> None:
        self._do(self.exchange.on_link_up, node)

    def on_link_down(self, node: bytes) -> None:
        self._do(self.exchange.on_link_down, node)
        self._do(self.departure.on_link_down, node)
        self._do(self.takeover.on_link_down, node)

    def on_message(self, node: bytes, message: Any) -> None:
        if isinstance(message, messages.Offer):
            self._do(self.takeover.on_offer, node, message)
        elif isinstance(message, messages.Taken):
            self._do(self.departure.on_taken, node, message)
        else:
            self._do(self.exchange.on_message, node, message)
            if isinstance(message, messages.Return):
                self._do(self.departure.on_return, node, message)

    def on_death(self, node: bytes) -> None:
        """The head has declared it dead."""
        if self.alive:
            self.world.tell(lambda: f"{self.name!r}: hears that {node!r} is dead")
            self.dead.append(node)
            self._do(self._bury, node)

    def _bury(self, node: bytes) -> None:
        self._buried_us[node] = self.world.now_us
        kept: list[Any] = self.exchange.on_death(node)
        self._kept.append(kept)
        self.world.after(GRACE_US, kept.clear)

    def kill(self) -> None:
        self.world.tell(lambda: f"{self.name!r}: killed")
        self.alive = False
        self.arena.close()
        self.network.leave(self.name)
        self.watch.waits_begun -= len(self.waits)
        self.held.clear()
        self.waits.clear()

    def drain(self) -> None:
        """It leaves as soon as others have all that they need of it."""
        if self.alive:
            self._do(self._aloud, self.departure.begin, DRAIN_MS, self.world.now_us // 1000)

    def _aloud(self, event: Callable[..., None], *args: object) -> None:
        """What it says to its user is a part of the story."""
        with contextlib.redirect_stderr(io.StringIO()) as said:
            event(*args)
        for line in said.getvalue().splitlines():
            self.world.tell(lambda line=line: f"{self.name!r}: {line}")  # type: ignore[misc]

    def _leave(self) -> None:
        """It is drained; the head hears it, and all others from the head."""
        self.world.after(0, self._go)

    def _go(self) -> None:
        if not self.alive:
            return
        self.kill()
        for other in self.others:
            self.world.after(self.world.random.randrange(1_000, 60_000), partial(other.on_death, self.name))

    def restart_manager(self) -> None:
        """The node manager is killed, and another one goes on with the same arena."""
        self.world.tell(lambda: f"{self.name!r}: node manager restarted")
        for other in self.others:
            if other.alive:
                self.network.break_link(self.name, other.name)
        for other in self.others:
            self.network.forget(other.name, self.name)
        # What its process held by ObjectIDs goes with it.
        for held in (*self._kept, *self._pulls.values()):
            held.clear()
        self._kept.clear()
        self._pulls.clear()
        self._do(self._begin_anew)

    def _begin_anew(self) -> None:
        self.exchange = self._make_exchange()
        self._make_leaving()
        for node in self.dead:
            self._bury(node)
        self.exchange.peers.want_links()

    def _do(self, event: Callable[..., object], *args: object) -> None:
        """What an event leads to; whatever goes wrong in it is a problem of this seed."""
        try:
            event(*args)
        except Exception:
            self.watch.problem(f"{self.name!r}: {traceback.format_exc()}")
        self.watch.problems += self.arena.problems
        self.arena.problems.clear()
        is_leaving = self.takeover.is_under_way or self.departure.is_under_way
        if (self.exchange.is_to_ask or is_leaving) and not self._tick_due:
            self._tick_due = True
            self.world.after(TICK_US, self._tick)

    def _tick(self) -> None:
        """Only when there is something to be done: a run comes to rest."""
        self._tick_due = False
        if self.alive:
            self._do(self.exchange.tick)
            self._do(self.takeover.tick)
            self._do(self._aloud, self.departure.tick, self.world.now_us // 1000)

    # --- what an exchange needs ---

    def send(self, node: bytes, message: messages.Message) -> None:
        self.network.send(self.name, node, message)

    def want_link(self, node: bytes) -> None:
        self.network.want_link(self.name, node)

    def pull(
        self, source: bytes, value: messages.Result, oid: ModelObjectID, nested: list[ModelObjectID]
    ) -> None:
        self._count += 1
        number = self._count
        self._pulls[number] = [oid, *nested]
        self.world.after(
            self.world.random.randrange(PULL_US), lambda: self._pulled(number, source, value, len(nested))
        )

    def _pulled(self, number: int, source: bytes, value: messages.Result, nested: int) -> None:
        pull = self._pulls.pop(number, None)
        if pull is None or not self.alive:
            return
        oid, *held = pull
        pull.clear()
        data = None
        if self.world.random.random() >= PULL_FAILS:
            data = next((other.stored(value) for other in self.others if other.name == source), None)
        self.world.tell(lambda: f"{self.name!r}: {value.id!r} is {'' if data else 'not '}fetched")
        self._do(self.exchange.wanted.on_pulled, value, oid, held, data)

    def stored(self, value: messages.Result) -> Data | None:
        """For others that fetch it."""
        entry = self.arena.entry(value.id) if self.alive else None
        here = entry.value if entry is not None else None
        return here.data if here is not None and len(here.data) == value.size else None

    def describe(self, root: bytes) -> messages.Job:
        number, _ = next(known for known in self.arena._jobs.values() if known[1] == root)
        return messages.Job(root, self.arena.node_of(number) or self.name, [], False)

    def learn(self, number: int, job: messages.Job) -> None:
        return

    def ended(self) -> None:
        self.arena.end_jobs()

    # --- news ---

    def _news_soon(self) -> None:
        if not self._news_due:
            self._news_due = True
            self.world.after(self.world.random.randrange(1, NEWS_US), self._read_news)

    def _read_news(self) -> None:
        self._news_due = False
        if self.alive:
            self._do(self._take_news)

    def _take_news(self) -> None:
        news: list[Any] = self.arena.news(NEWS_AT_ONCE, 0)
        self.exchange.on_news(news)

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
        self._run(task)

    def _call_soon(self) -> None:
        self.world.after(self.world.random.randrange(1, 500), self._call)

    def _call(self) -> None:
        """An actor's own process takes its next call."""
        task = self.arena.take_call() if self.alive else None
        if task is None:
            return
        if wrong := self.watch.calls.run(task.name):
            self.watch.problem(f"{self.name!r}: {wrong}")
        self._run(task)

    def _run(self, task: Task) -> None:
        self.world.tell(lambda: f"{self.name!r}: runs {task.id!r}, attempt {task.attempt}")
        known = [self.arena.hold(key) for key in (*task.deps, *task.nested)]
        for key in task.deps:
            known += self._read(known[task.deps.index(key)])
        self.world.after(self.world.random.randrange(100, 5_000), lambda: self._finish(task, known))

    def _finish(self, task: Task, known: list[ModelObjectID]) -> None:
        self._busy -= task.kind is not Kind.CALL
        if not self.alive:
            return
        random = self.world.random
        caller = task.name, task.attempt
        if self._with_actors and random.random() < 0.2:  # each run has less than one successor
            self._use_actors(known, task.job, caller)
        if random.random() < 0.4:
            known.append(self._put(known))
        if random.random() < 0.2:
            known += self._submit(known, task.job)
        results = []
        for _ in task.returns:
            nested = random.sample(known, min(len(known), random.choice(NESTED)))
            results.append(self._value(nested) if task.kind is not Kind.CREATE else Value(0, b""))
        self.arena.close_lanes(caller)
        if self.arena.finish(task, results):
            self.watch.executions[task.name] = self.watch.executions.get(task.name, 0) + 1
        known.clear()
        self._work_soon()

    # --- programs ---

    def _label(self, kind: str) -> bytes:
        self._count += 1
        return f"{self.name.decode()}-{kind}{self._count}".encode()

    def _value(self, nested: list[ModelObjectID]) -> Value:
        label = self._label("value")
        data = self.world.random.choice((label, label, Large(label, 10 * SMALL_BYTES)))
        return Value(0, data, tuple(each.binary() for each in nested))

    def _put(self, known: list[ModelObjectID]) -> ModelObjectID:
        random = self.world.random
        nested = random.sample(known, min(len(known), random.choice(NESTED)))
        value = self._value(nested)
        key = self._label("put")
        self.watch.owners[key] = self.name
        return self.arena.put(key, value.data, nested)

    def _submit(self, known: list[ModelObjectID], job: int) -> list[ModelObjectID]:
        random = self.world.random
        deps, nested = self._arguments(known)
        returns = self.arena.submit(
            self._label("task"), job, deps, nested, random.choice((1, 1, 2)), retries=5
        )
        for oid in returns:
            self.watch.owners[oid.binary()] = self.name
        return returns

    def _arguments(self, known: list[ModelObjectID]) -> tuple[list[ModelObjectID], list[ModelObjectID]]:
        random = self.world.random
        values = [oid for oid in known if not is_actor(oid.binary())]
        deps = random.sample(values, min(len(values), random.choice((0, 1, 2))))
        return deps, random.sample(known, min(len(known), random.choice(NESTED)))

    def _use_actors(self, known: list[ModelObjectID], job: int, caller: Hashable) -> None:
        """Makes one, calls one, or kills one, of those that are known; what comes of it is known as well."""
        random = self.world.random
        choice = random.random()
        handles = [oid for oid in known if is_actor(oid.binary())]
        if choice < 0.1 or (not handles and choice < 0.5):
            known.append(self._create(known, job))
        elif choice < 0.9 and handles:
            actor = random.choice(handles)
            for _ in range(random.choice((1, 1, 2, 5))):
                known += self._call_actor(actor, known, job, caller)
        elif choice < 0.93 and handles:
            actor = random.choice(handles)
            self.world.tell(lambda: f"{self.name!r}: kills {actor!r}")
            self.watch.killed.add(base_of(actor.binary()))
            self._do(self.arena.kill_actor, actor)

    def _create(self, known: list[ModelObjectID], job: int) -> ModelObjectID:
        deps, nested = self._arguments(known)
        oid = self.arena.create_actor(self._label("actor"), job, deps, nested)
        self.watch.owners[oid.binary()] = self.name
        return oid

    def _call_actor(
        self, actor: ModelObjectID, known: list[ModelObjectID], job: int, caller: Hashable
    ) -> list[ModelObjectID]:
        deps, nested = self._arguments(known)
        label = self._label("call")
        self.watch.calls.make(label, base_of(actor.binary()), caller)
        returns = self.arena.call(
            actor, label, job, caller, deps, nested, self.world.random.choice((1, 1, 2))
        )
        for oid in returns:
            self.watch.owners[oid.binary()] = self.name
        return returns

    def _is_no_loss(self, value: Value) -> bool:
        """Of a call to an actor that was killed, or whose node died, or a result that went with it."""
        if self.watch.deaths:
            return True
        code = int.from_bytes(value.data[:4], "little") if isinstance(value.data, bytes) else 0
        return code == _kernel.ACTOR_KILLED and bool(self.watch.killed)

    def _read(self, oid: ModelObjectID) -> list[ModelObjectID]:
        """What a value that is here contains."""
        value = self.arena.value(oid)
        key = oid.binary()
        if value.is_failure:
            self.watch.lost.add(key)
            if not self._is_no_loss(value):
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
        if not self.arena.drivers():
            self._send_tasks()
        elif choice < 0.15:
            self.held.append(self._put(self.held))
        elif choice < 0.45:
            self.held += self._submit(self.held, self.arena.driver_job)
            if random.random() < SENT:
                self._send_tasks()
        elif choice < 0.65 and self.held:
            self._wait(random.choice(self.held))
            if self._with_actors:
                self._use_actors(self.held, self.arena.driver_job, self.name)
                if random.random() < SENT:
                    self._send_tasks()
        elif choice < 0.9 and self.held:
            self.held.pop(random.randrange(len(self.held)))
        else:
            self._send_tasks()

    def _send_tasks(self) -> None:
        """As a scheduler would, to anybody."""
        other = self.world.random.choice(self.others)
        if other.alive and other.name not in self.dead and self.arena.ready():
            self._do(self.exchange.tasks.send, other.name, SHAPE, self.world.random.randint(1, 3))

    def _wait(self, oid: ModelObjectID) -> None:
        if is_actor(oid.binary()):
            return
        self.watch.waits_begun += 1
        if self.arena.is_ready(oid):
            self.watch.waits_ended += 1
            self.held += self._read(oid)
        else:
            self.arena.await_value(oid)
            self.waits.append(oid)

    def _sealed(self, key: bytes, entry: Entry) -> None:
        self._sealed_us[key] = self.world.now_us
        self._check_lost(key, entry)
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

    def is_taking_over(self, key: bytes) -> bool:
        """It was offered, and is held for that alone: this node may have returned what it had been lent."""
        entry = self.arena.entry(key)
        offered = any(key in wanted for wanted in self.takeover._wanted.values())
        return entry is not None and offered and entry.references == 1

    def _check_lost(self, key: bytes, entry: Entry) -> None:
        """It was lost with a node that owned it: no other must have had a copy all the time, and have been
        in reach without a break."""
        data = entry.value.data if entry.value is not None and entry.value.is_failure else b""
        is_lost = isinstance(data, bytes) and data[:4] == LOST
        heard_us = self._buried_us.get(self.watch.owners.get(key, b""))
        by_its_owner = entry.owner == THIS_NODE or self.arena.node_of(entry.owner) in self._buried_us
        if not is_lost or heard_us is None or not by_its_owner:  # else another node, which lives, has lost it
            return
        for other in self.others:
            there = other.arena.entry(key) if other.alive else None
            if there is None or there.value is None or there.value.is_failure:
                continue
            had_it = other._sealed_us[key] <= heard_us
            is_none_dead = other.name not in self.dead and self.name not in other.dead
            if had_it and is_none_dead and self.network.is_steady(self.name, other.name, heard_us):
                self.watch.problem(f"{self.name!r}: {key!r} is lost, and {other.name!r} has it")

    def _freed(self, key: bytes, entry: Entry) -> None:
        self.world.tell(lambda: f"{self.name!r}: {key!r} is freed")
        if entry.owner != THIS_NODE or self.watch.owners.get(key) != self.name:
            return
        for other in self.others:
            there = other.arena.entry(key) if other.alive and self.name not in other.dead else None
            if there is None or other.name in self.dead or other.arena.node_of(there.owner) != self.name:
                continue
            if other.arena.is_used(key) and not other.is_taking_over(key):
                self.watch.problem(f"{self.name!r}: {key!r} is freed, and {other.name!r} has it")
