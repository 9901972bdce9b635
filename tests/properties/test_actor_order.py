"""The order of an actor's calls, against a model: callers, late arguments, checkpoints, deaths, handles.

Callers and the processes that serve actors are processes of their own. After each step every actor must
have been handed exactly the call that the model hands it.
"""

import dataclasses
import os
import time
from collections import Counter, deque
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ray import _kernel
from tests.properties.clients import PATIENCE_S, Client, Hands
from tests.properties.forms import run_machine

RAW, FAILURE = 2, 150
CALLERS = 3
SERVERS_MAX = 4
DEATHS_MAX = 5  # kernel/numbers.hpp: in a row, without one new call finished
PICK = st.integers(0, 1 << 30)
CALLER = st.integers(0, CALLERS - 1)
DIED, KILLED, CONSTRUCTOR = "died", "killed", "constructor failed"


class Caller(Hands):
    """Makes actors and calls; holds handles and results by the model's numbers."""

    def __init__(self, arena: _kernel.Arena) -> None:
        super().__init__(arena)
        self.handles: dict[int, list[_kernel.ObjectID]] = {}
        self.results: dict[int, _kernel.ObjectID] = {}
        self.function = arena.put(b"class", RAW)

    def create(self, number: int, interval: int) -> tuple[bytes, int]:
        shape = self.arena.shape(0, 0, 0)
        payload = str(number).encode()
        handle = self.arena.create_actor(self.function, payload, None, None, shape, interval)
        self.handles[number] = [handle]
        return handle.binary(), handle.key

    def receive(self, number: int, binary: bytes, key: int) -> None:
        self.handles.setdefault(number, []).append(_kernel.ObjectID(binary, key))

    def drop(self, number: int) -> None:
        self.handles[number].pop()
        self.settle()

    def call(self, actor: int, number: int, argument: tuple[bytes, int] | None) -> None:
        deps = [_kernel.ObjectID(*argument)] if argument else None
        found = self.arena.call(self.handles[actor][0], str(number).encode(), deps, None, 1)
        assert isinstance(found, _kernel.ObjectID)
        self.results[number] = found

    def kill(self, actor: int) -> int:
        return self.arena.kill_actor(self.handles[actor][0])

    def look(self, number: int, wait_ms: int) -> tuple[int, bytes] | None:
        try:
            fmt, data = self.arena.get(self.results[number], wait_ms)
        except _kernel.WaitTimeout:
            return None
        return fmt, bytes(data)


class Server(Hands):
    """A worker that becomes an actor's process; what it takes it does not run."""

    def _taken(self, work: Any) -> tuple[int, int, int, bytes | None] | None:
        """Kind, number, attempt, and for a creation the last checkpoint."""
        if work is None:
            return None
        kind, payload = work[0], int(bytes(work[2]))
        saved = self.arena.last_checkpoint() if kind == _kernel.ACTOR_CREATE else None
        state = bytes(self.arena.get(saved)[1]) if saved else None
        return kind, payload, self.arena.attempt(), state

    def take(self) -> Any:
        return self._taken(self.arena.next())

    def finish(self, data: bytes) -> Any:
        return self._taken(self.arena.next(data, RAW))

    def finish_and_save(self, data: bytes, state: bytes) -> Any:
        self.arena.finish([(data, RAW, None)])
        self.arena.complete()
        self.arena.checkpoint(state, RAW)
        return self._taken(self.arena.next())

    def fail_constructor(self) -> Any:
        self.arena.actor_failed(CONSTRUCTOR.encode(), FAILURE)
        return self._taken(self.arena.next())


@dataclasses.dataclass(eq=False)
class Call:
    number: int
    caller: int
    argument: str | None  # a promise that is not kept yet
    attempt: int = 0
    held: bool = False  # finished, and to be run again after a death
    result: bytes | str | None = None


@dataclasses.dataclass(eq=False)
class Actor:
    number: int
    binary: bytes
    key: int
    interval: int
    state: str = "queued"  # creating, alive, dead
    attempt: int = 0
    was_alive: bool = False
    server: Client | None = None
    running: Call | None = None
    lanes: dict[int, deque[Call]] = dataclasses.field(default_factory=dict)
    ready: deque[int] = dataclasses.field(default_factory=deque)  # callers whose first call can run
    replay: deque[Call] = dataclasses.field(default_factory=deque)
    done: list[Call] = dataclasses.field(default_factory=list)
    saved: bytes | None = None
    deaths: int = 0
    why: str = ""

    def calls(self) -> list[Call]:
        """Those without a result."""
        waiting = [call for lane in self.lanes.values() for call in lane]
        mine = [*([self.running] if self.running else []), *self.replay, *waiting]
        return [call for call in mine if call.result is None]


class Actors(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        # At the limit of workers no actor waits for its turn until a new one has come to a queued creation.
        self.arena = _kernel.Arena.create(16 << 20, [_kernel.UNIT, 0, 0], max_workers=1)
        self.arena.register(_kernel.DRIVER, os.urandom(16) + bytes(4))
        self.idle: list[Client] = []
        self.callers = [self._caller() for _ in range(CALLERS)]
        self.incarnation = list(range(CALLERS))  # lanes belong to a process, not to its place in the list
        self.actors: dict[int, Actor] = {}
        self.queue: deque[Actor] = deque()  # creations
        self.handles: Counter[tuple[int, int]] = Counter()  # (place of the caller, actor)
        self.results: dict[int, list[Call]] = {place: [] for place in range(CALLERS)}
        self.promises: dict[str, _kernel.ObjectID] = {}
        self.made = CALLERS
        self.add_server()

    def _caller(self) -> Client:
        return Client(self.arena, _kernel.DRIVER, Caller, os.urandom(16) + bytes(4))

    # --- the model ---

    def _serving(self) -> dict[Client, Actor]:
        return {actor.server: actor for actor in self.actors.values() if actor.server}

    def _busy(self) -> list[Actor]:
        return [actor for actor in self.actors.values() if actor.state == "creating" or actor.running]

    def _next_call(self, actor: Actor) -> Call | None:
        if actor.replay:
            call = actor.replay.popleft()
            if call.held:
                call.held = False
                call.attempt += 1
            return call
        if not actor.ready:
            return None
        caller = actor.ready.popleft()
        lane = actor.lanes[caller]
        call = lane.popleft()
        if lane and lane[0].argument is None:
            actor.ready.append(caller)
        return call

    def _die(self, actor: Actor, why: str) -> None:
        actor.state, actor.why = "dead", why
        for call in actor.calls():
            call.result = why
        actor.lanes.clear()
        actor.ready.clear()
        actor.replay.clear()
        actor.done.clear()
        actor.running = None

    def _referenced(self, actor: Actor) -> bool:
        has_handle = any(number == actor.number for _, number in +self.handles)
        # Its first creation counts as a call does. A restart is for the sake of others.
        first = actor.state in ("queued", "creating") and not actor.was_alive
        return has_handle or first or bool(actor.calls())

    def _unreferenced_die(self) -> None:
        for actor in list(self.actors.values()):
            if actor.state == "alive" and not self._referenced(actor):
                server = actor.server
                self._die(actor, KILLED)
                assert server is not None
                assert server.answer() is None  # its process has no more to do
                server.leave()
                actor.server = None
            if actor.state == "dead" and not any(number == actor.number for _, number in +self.handles):
                self.actors.pop(actor.number)

    def _expected(self) -> dict[Client | int, tuple[Actor, Call | None]]:
        """What is handed out now: to an actor's own server, or a creation (by number) to any idle one."""
        expected: dict[Client | int, tuple[Actor, Call | None]] = {}
        idle = len(self.idle)
        while idle and self.queue:
            actor = self.queue.popleft()
            if actor.state == "dead":  # killed while it was queued
                continue
            actor.state = "creating"
            idle -= 1
            expected[actor.number] = actor, None
        for actor in self.actors.values():
            if actor.state == "alive" and actor.running is None and actor.server:
                actor.running = self._next_call(actor)
                if actor.running:
                    expected[actor.server] = actor, actor.running
        return expected

    def _settle(self) -> None:
        expected = self._expected()
        deadline = time.monotonic() + PATIENCE_S
        while expected and time.monotonic() < deadline:
            for server in [*self.idle, *self._serving()]:
                if server.answered(0.001) and (server in expected or server in self.idle):
                    kind, number, attempt, state = server.answer()
                    actor, call = expected.pop(number if server in self.idle else server)
                    if call is None:
                        assert (kind, attempt, state) == (_kernel.ACTOR_CREATE, actor.attempt, actor.saved)
                        actor.server = server
                        self.idle.remove(server)
                    else:
                        assert (kind, number, attempt) == (_kernel.ACTOR_CALL, call.number, call.attempt)
        assert not expected, f"not handed out: {expected}"
        self._unreferenced_die()
        state = {"running_tasks": len(self._busy())}
        while (seen := {name: self.arena.stats()[name] for name in state}) != state:
            assert time.monotonic() < deadline, (seen, state)
            time.sleep(0.001)
        assert self.arena.check() == []

    # --- steps ---

    @precondition(lambda self: len(self.idle) + len(self._serving()) < SERVERS_MAX)
    @rule()
    def add_server(self) -> None:
        server = Client(self.arena, _kernel.WORKER, Server)
        server.begin("take")
        self.idle.append(server)
        self._settle()

    @precondition(lambda self: len(self.actors) < SERVERS_MAX)
    @rule(place=CALLER, interval=st.sampled_from([0, 2]))
    def create(self, place: int, interval: int) -> None:
        self.made += 1
        binary, key = self.callers[place].do("create", self.made, interval)
        actor = self.actors[self.made] = Actor(self.made, binary, key, interval)
        self.queue.append(actor)
        self.handles[place, actor.number] += 1
        self._settle()

    @precondition(lambda self: +self.handles)
    @rule(pick=PICK, to=CALLER)
    def pass_on(self, pick: int, to: int) -> None:
        _, number = sorted(+self.handles)[pick % len(+self.handles)]
        actor = self.actors[number]
        self.callers[to].do("receive", number, actor.binary, actor.key)
        self.handles[to, number] += 1

    @precondition(lambda self: +self.handles)
    @rule(pick=PICK)
    def drop_handle(self, pick: int) -> None:
        place, number = sorted(+self.handles)[pick % len(+self.handles)]
        self.callers[place].do("drop", number)
        self.handles[place, number] -= 1
        self._settle()

    @precondition(lambda self: +self.handles)
    @rule(pick=PICK, count=st.integers(1, 3), promise=PICK, waits=st.booleans())
    def call(self, pick: int, count: int, promise: int, waits: bool) -> None:
        place, number = sorted(+self.handles)[pick % len(+self.handles)]
        actor = self.actors[number]
        names = sorted(self.promises)
        for _ in range(count):
            self.made += 1
            name = names[promise % len(names)] if names and waits else None
            call = Call(self.made, self.incarnation[place], name)
            argument = (self.promises[name].binary(), self.promises[name].key) if name else None
            self.callers[place].do("call", number, call.number, argument)
            self.results[place].append(call)
            if actor.state == "dead":
                call.result = actor.why
            else:
                lane = actor.lanes.setdefault(call.caller, deque())
                lane.append(call)
                if len(lane) == 1 and name is None:
                    actor.ready.append(call.caller)
            self._settle()

    @rule()
    def promise(self) -> None:
        self.made += 1
        self.promises[f"promise {self.made}"] = self.arena.reserve()

    @precondition(lambda self: self.promises)
    @rule(pick=PICK)
    def keep_promise(self, pick: int) -> None:
        name = sorted(self.promises)[pick % len(self.promises)]
        # Told in the reverse order in which they came to wait; only the first of a lane matters.
        for call in sorted(self._waiting_for(name), key=lambda call: -call.number):
            call.argument = None
            for actor in self.actors.values():
                lane = actor.lanes.get(call.caller)
                if lane and lane[0] is call:
                    actor.ready.append(call.caller)
        assert self.arena.seal(self.promises.pop(name), b"kept", RAW)
        self._settle()

    def _waiting_for(self, name: str) -> list[Call]:
        every = [call for actor in self.actors.values() for call in actor.calls()]
        return [call for call in every if call.argument == name]

    @precondition(lambda self: self._busy())
    @rule(pick=PICK, save=st.booleans())
    def finish(self, pick: int, save: bool) -> None:
        actor = self._busy()[pick % len(self._busy())]
        assert actor.server is not None
        if actor.state == "creating":
            actor.state, actor.was_alive = "alive", True
            actor.server.begin("take")
        elif call := actor.running:
            value = f"{call.number} at {call.attempt}".encode()
            actor.running = None
            if call.result is None:
                call.result = value
                actor.deaths = 0
            if actor.interval and save:
                actor.done.clear()
                actor.saved = f"after {call.number}".encode()
                actor.server.begin("finish_and_save", value, actor.saved)
            else:
                if actor.interval:
                    actor.done.append(call)
                actor.server.begin("finish", value)
        self._settle()

    @precondition(lambda self: any(actor.state == "creating" for actor in self.actors.values()))
    @rule(pick=PICK)
    def fail_constructor(self, pick: int) -> None:
        creating = [actor for actor in self.actors.values() if actor.state == "creating"]
        actor = creating[pick % len(creating)]
        server = actor.server
        assert server is not None
        actor.server = None
        self._die(actor, CONSTRUCTOR)
        assert server.do("fail_constructor") is None
        server.leave()
        self._settle()

    # --- ends ---

    @precondition(lambda self: self._serving())
    @rule(pick=PICK)
    def server_dies(self, pick: int) -> None:
        server, actor = list(self._serving().items())[pick % len(self._serving())]
        actor.server = None
        if actor.interval and self._referenced(actor) and actor.deaths < DEATHS_MAX:
            creating = actor.state == "creating"
            if actor.running and not creating:
                actor.running.attempt += 1
                actor.replay.appendleft(actor.running)
            for call in actor.done:
                call.held = True
            actor.replay.extendleft(reversed(actor.done))
            actor.done, actor.running = [], None
            actor.deaths += 1
            actor.attempt += 1
            actor.state = "queued"
            self.queue.appendleft(actor)
        else:
            self._die(actor, DIED if self._referenced(actor) else KILLED)
        server.kill()
        self._settle()

    @precondition(lambda self: any(self.actors[number].state != "dead" for _, number in +self.handles))
    @rule(pick=PICK)
    def kill_actor(self, pick: int) -> None:
        living = [each for each in sorted(+self.handles) if self.actors[each[1]].state != "dead"]
        place, number = living[pick % len(living)]
        actor = self.actors[number]
        server = actor.server
        pid = self.callers[place].do("kill", number)
        assert pid == (server.pid if server else 0)
        self._die(actor, KILLED)
        if server:
            actor.server = None
            server.kill()
        self._settle()

    @rule(place=CALLER)
    def caller_dies(self, place: int) -> None:
        """Its calls are run all the same."""
        self.callers[place].kill()
        self.callers[place] = self._caller()
        self.made += 1
        self.incarnation[place] = self.made
        self.results[place].clear()
        for held in [held for held in self.handles if held[0] == place]:
            del self.handles[held]
        self._settle()

    # --- looking ---

    @rule(place=CALLER, pick=PICK)
    def look(self, place: int, pick: int) -> None:
        if not self.results[place]:
            return
        call = self.results[place][pick % len(self.results[place])]
        wait_ms = int(PATIENCE_S * 1000) if call.result else 0
        seen = self.callers[place].do("look", call.number, wait_ms)
        if call.result is None:
            assert seen is None
        elif call.result == CONSTRUCTOR:
            assert seen == (FAILURE, CONSTRUCTOR.encode())
        elif isinstance(call.result, str):
            code = {DIED: _kernel.ACTOR_DIED, KILLED: _kernel.ACTOR_KILLED}[call.result]
            assert seen[0] == _kernel.FORMAT_SYSTEM
            assert int.from_bytes(seen[1][:4], "little") == code
        else:
            assert seen == (RAW, call.result)

    def teardown(self) -> None:
        if not hasattr(self, "arena"):
            return
        for place in range(CALLERS):
            for pick in range(len(self.results[place])):
                self.look(place, pick)
        for client in [*self.callers, *self.idle, *self._serving()]:
            client.kill()
        self.promises.clear()
        self.arena.leave()


def test_actors_against_a_model() -> None:
    run_machine(Actors, short=10, steps=50)
