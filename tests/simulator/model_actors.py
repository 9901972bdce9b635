"""Actors as the kernel keeps them, in plain Python: who serves one, its callers' lanes, its end.

The part of `ModelArena` that `kernel/mailbox.hpp` and the actors in `kernel/away.hpp` are of the kernel.
Without checkpoints: what an actor has done is lost with its node, and its calls fail.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from ray import _kernel

if TYPE_CHECKING:
    from tests.simulator.model_arena import Entry, ModelObjectID, SentTask, Task

THIS_NODE = 0
ACTOR_END = bytes((0, 0, 0, 0xC0))  # of the id of an actor, after that of its creation
SERVED_END = bytes((1, 0, 0, 0xC0))  # as the node knows it that serves it for its owner
AROUND_MARK = b"~"  # of a task that is here already, behind its id: its actor's owner has sent it back
CALLS_AWAY_MAX = 3  # of one caller; few, so that runs come to it


class Kind(Enum):
    """Of a task."""

    TASK = 0
    CREATE = 1
    CALL = 2


class State(Enum):
    """Where a task is."""

    WAITING = 0
    READY = 1
    RUNNING = 2
    AWAY = 3


class ActorState(Enum):
    """Where an actor is."""

    CREATING = 0
    ALIVE = 1
    AWAY = 2
    DEAD = 3


@dataclass(slots=True, eq=False)
class Lane:
    """One caller's calls, the oldest first; so many of the first ones are away."""

    caller: Hashable | None  # None: it is elsewhere, or has ended
    calls: list[bytes] = field(default_factory=list)
    away: int = 0


@dataclass(slots=True, eq=False)
class Actor:
    """One, or a handle of one that is another node's."""

    key: bytes
    job: int
    state: ActorState = ActorState.CREATING
    peer: int = THIS_NODE  # of one that is away
    creation: bytes | None = None
    running: bytes | None = None
    lanes: list[Lane] = field(default_factory=list)  # whose turn is next comes first
    is_to_end: bool = False  # and its peer has not heard it
    failure: int = 0


def is_actor(key: bytes) -> bool:
    return key.endswith((ACTOR_END, SERVED_END))


def base_of(key: bytes) -> bytes:
    """What all names of an actor have in common."""
    return key[: -len(ACTOR_END)]


def served_as(key: bytes, owner: int) -> bytes:
    """How the node that serves an actor of this node names it; others know it by its own name."""
    return key[: -len(SERVED_END)] + SERVED_END if owner == THIS_NODE else key


class ActorTables:
    """What `ModelArena` has of them."""

    _entries: "dict[bytes, Entry]"
    _tasks: "dict[bytes, Task]"
    _look: Callable[[bytes], None]
    _add_news: Callable[[bytes], None]
    _fail: "Callable[[Task, int], None]"
    _end_task: "Callable[[Task], None]"
    _make_ready: "Callable[[Task], None]"
    _sent: "Callable[[Task, int], SentTask]"
    _must_be_peer: Callable[[int], None]
    _drop_edge: Callable[[bytes], None]

    def __init__(self) -> None:
        self.on_call: Callable[[], None] = lambda: None
        self.calls_sent = 0
        self.calls_come_back = 0
        self._actors: dict[bytes, Actor] = {}

    # --- callers ---

    def close_lanes(self, caller: Hashable) -> None:
        """That run has ended."""
        for actor in self._actors.values():
            for lane in list(actor.lanes):
                if lane.caller == caller:
                    lane.caller = None
                    if not lane.calls:
                        actor.lanes.remove(lane)

    def _served_here(self, key: bytes) -> Actor:
        """Calls of the node that serves an actor of another need not go around."""
        actor = self._actors[key]
        if actor.state is ActorState.AWAY and self._entries[key].owner != THIS_NODE:
            return self._actors.get(served_as(key, THIS_NODE), actor)
        return actor

    def _called_as(self, key: bytes, caller: Hashable) -> Actor:
        """The same, unless earlier calls of this caller do go around."""
        actor = self._actors[key]
        are_around = any(lane.caller == caller and lane.calls for lane in actor.lanes)
        return actor if are_around else self._served_here(key)

    def _lane_for(self, actor: Actor, caller: Hashable) -> Lane:
        for lane in actor.lanes:
            if lane.caller == caller:
                return lane
        actor.lanes.append(Lane(caller))
        return actor.lanes[-1]

    def _lane_of_received(self, actor: Actor, after: bytes | None) -> Lane:
        """Behind the call before it, if that has not begun."""
        for name in () if after is None else (after + AROUND_MARK, after):
            before = self._tasks.get(name)
            if before is not None and before.lane is not None and before.actor == actor.key:
                return before.lane
        actor.lanes.append(Lane(None))
        return actor.lanes[-1]

    def _line_up(self, task: "Task", lane: Lane) -> None:
        actor = self._actors[task.actor]
        lane.calls.append(task.id)
        task.lane = lane
        if lane.calls[lane.away :][:1] == [task.id]:
            self._go_on(actor, lane)

    def _turn(self, lane: Lane) -> "Task | None":
        """Its next call, if that may go or run."""
        if lane.away >= min(CALLS_AWAY_MAX, len(lane.calls)):
            return None
        task = self._tasks[lane.calls[lane.away]]
        return task if all(self._entries[key].value is not None for key in task.deps) else None

    def _argument_came(self, task: "Task") -> None:
        if task.lane is not None:
            self._go_on(self._actors[task.actor], task.lane)

    def _go_on(self, actor: Actor, lane: Lane) -> None:
        if self._turn(lane) is not None:
            self._activate(actor)
        elif not lane.calls and lane.caller is None and lane in actor.lanes:
            actor.lanes.remove(lane)

    def _has_turn(self, actor: Actor) -> bool:
        return any(self._turn(lane) is not None for lane in actor.lanes)

    def _activate(self, actor: Actor) -> None:
        if actor.state is ActorState.AWAY:
            self._add_news(actor.key)
        elif actor.state is ActorState.ALIVE:
            self.on_call()

    def _next_call(self, actor: Actor) -> "tuple[Task, Lane] | None":
        """Of the caller whose turn it is; the next time it is another's."""
        for lane in actor.lanes:
            if (task := self._turn(lane)) is not None:
                actor.lanes.remove(lane)
                actor.lanes.append(lane)
                return task, lane
        return None

    def _leave_lane(self, task: "Task") -> None:
        lane, task.lane = task.lane, None
        if lane is not None:
            lane.away -= lane.calls.index(task.id) < lane.away
            lane.calls.remove(task.id)
            self._go_on(self._actors[task.actor], lane)

    # --- its process ---

    def take_call(self) -> "Task | None":
        """A call that may run, of an actor that runs none."""
        for actor in self._actors.values():
            if actor.state is not ActorState.ALIVE or actor.running is not None:
                continue
            if (found := self._next_call(actor)) is not None:
                task, _ = found
                actor.running = task.id
                task.state = State.RUNNING
                self._leave_lane(task)
                return task
        return None

    def _actor_did(self, task: "Task") -> None:
        """It is created, or has done a call."""
        actor = self._actors[task.actor]
        if task.kind is Kind.CALL:
            actor.running = None
        else:
            actor.creation = None
            if actor.state is ActorState.CREATING:
                actor.state = ActorState.ALIVE
        if self._has_turn(actor):
            self._activate(actor)

    def _release_actor(self, task: "Task") -> None:
        if task.counts:
            task.counts = False
            self._drop_edge(task.actor)

    # --- the end ---

    def kill_actor(self, oid: "ModelObjectID") -> int:
        key = oid.binary()
        here, actor = self._served_here(key), self._actors[key]
        if here.state not in (ActorState.AWAY, ActorState.DEAD):
            self._die(here, _kernel.ACTOR_KILLED)
        if actor.state is ActorState.AWAY:
            if not actor.is_to_end:  # until that is heard of, this keeps it here
                actor.is_to_end = True
                self._entries[key].edges += 1
            self._add_news(key)
        return 0

    def heard_of_end(self, peer: int, raw: bytes) -> None:
        actor = self._actors.get(raw[: -len(ACTOR_END)] + ACTOR_END)
        if actor is not None and actor.state is ActorState.AWAY and actor.peer == peer:
            self._stop_ending(actor)

    def _stop_ending(self, actor: Actor) -> None:
        if actor.is_to_end:
            actor.is_to_end = False
            self._drop_edge(actor.key)

    def _lose(self, actor: Actor, why: int) -> None:
        """Its node has died; or it never came there, and shall end."""
        entry = self._entries[actor.key]
        entry.edges += 1  # it is looked at again below
        self._stop_ending(actor)
        actor.peer = THIS_NODE
        self._die(actor, why)
        self._drop_edge(actor.key)

    def _die(self, actor: Actor, code: int) -> None:
        actor.state = ActorState.DEAD
        actor.failure = code
        entry = self._entries[actor.key]
        entry.edges += 1
        doomed = [actor.running] if actor.running is not None else []
        for lane in actor.lanes:
            doomed += lane.calls
        if actor.creation is not None:
            doomed.append(actor.creation)
        actor.lanes, actor.running, actor.creation = [], None, None
        tasks = [self._tasks[each] for each in doomed]
        for task in tasks:
            task.lane = None
        for task in tasks:
            self._fail(task, code)
        self._drop_edge(actor.key)

    def _end_jobs_of_actors(self, jobs: Iterable[int]) -> None:
        for actor in list(self._actors.values()):
            lives = actor.state in (ActorState.CREATING, ActorState.ALIVE)
            if lives and actor.job not in jobs and actor.key in self._actors:
                self._die(actor, _kernel.JOB_ENDED)

    # --- elsewhere ---

    def _settle(self, task: "Task", peer: int) -> None:
        """The peer serves it from now on, and its creation is its lineage."""
        actor, entry = self._actors[task.actor], self._entries[task.actor]
        actor.state, actor.peer = ActorState.AWAY, peer
        entry.located, entry.task = peer, task.id
        if self._has_turn(actor):
            self._activate(actor)

    def _creation_comes_back(self, task: "Task", again: bool) -> None:
        actor, entry = self._actors[task.actor], self._entries[task.actor]
        if entry.task == task.id:
            entry.located, entry.task = THIS_NODE, None
        if again and not actor.is_to_end:
            actor.state, actor.peer = ActorState.CREATING, THIS_NODE
            self._make_ready(task)
            return
        actor.creation = None
        task.state = State.WAITING
        entry.edges += 1
        self._fail(task, _kernel.ACTOR_KILLED if again else _kernel.ACTOR_NODE_DIED)
        self._lose(actor, _kernel.ACTOR_KILLED if again else _kernel.ACTOR_NODE_DIED)
        self._drop_edge(actor.key)

    def _unsend(self, task: "Task") -> None:
        """To be sent again, after those of its lane that are still away."""
        lane = task.lane
        assert lane is not None
        self.calls_come_back += 1
        lane.calls.remove(task.id)
        lane.away -= 1
        lane.calls.insert(lane.away, task.id)
        self._make_ready(task)
        self._go_on(self._actors[task.actor], lane)

    def send_calls(self, peer: int, oid: "ModelObjectID", count: int) -> "list[SentTask]":
        self._must_be_peer(peer)
        actor = self._actors[oid.binary()]
        owner = self._entries[actor.key].owner
        sent: list[Any] = []
        while len(sent) < count and actor.state is ActorState.AWAY and actor.peer == peer:
            found = self._next_call(actor)
            if found is None:
                break
            task, lane = found
            after = lane.calls[lane.away - 1] if lane.away else None
            lane.away += 1
            self.calls_sent += 1
            row = self._sent(task, peer)
            is_around = bool(task.returns) and self._entries[task.returns[0]].owner == peer
            sent.append((*row[:12], (served_as(actor.key, owner), owner), after, None, is_around, None, 0))
        if self._has_turn(actor):
            self._activate(actor)
        return sent

    def _with_calls(self, peer: int, ids: Iterable[bytes]) -> "list[Task]":
        """Of what is there: these, and with an actor's creation all calls to it; the youngest first."""
        away = [task for task in self._tasks.values() if task.away == peer]
        chosen = {task.id for task in away} & set(ids)
        actors = {self._tasks[each].actor for each in chosen if self._tasks[each].kind is Kind.CREATE}
        found = [task for task in away if task.id in chosen or (task.lane and task.actor in actors)]
        return sorted(found, key=lambda task: -task.sequence)

    def _actor_news(self, key: bytes, hold: "Callable[[bytes], ModelObjectID]") -> tuple[object, ...] | None:
        actor, owner = self._actors[key], self._entries[key].owner
        if actor.state is not ActorState.AWAY or not (actor.is_to_end or self._has_turn(actor)):
            return None
        ends = served_as(key, owner) if actor.is_to_end else None
        return _kernel.NEWS_CALLS, hold(key), actor.peer, ends

    def _renew_calls(self, peer: int) -> None:
        for actor in self._actors.values():
            is_there = actor.state is ActorState.AWAY and actor.peer == peer
            if is_there and (actor.is_to_end or self._has_turn(actor)):
                self._add_news(actor.key)
