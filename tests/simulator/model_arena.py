"""A node's tables as the kernel keeps them, in plain Python: the part that other nodes have to do with.

Same meaning as `ray._kernel.Arena` (its section on other nodes), nothing else: no memory, no processes, no
waiting. Simple enough to be seen to be right; each method is one transaction. Local references are
`ModelObjectID`s: the last one gone gives the reference back, at once.

`problems` collects what must never happen, as the arena itself can see it.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from functools import partial

from ray import _kernel
from ray.node.cluster.ids import around, as_owned
from ray.session.record import SessionRecord
from tests.simulator.model_actors import (
    ACTOR_END,
    AROUND_MARK,
    SERVED_END,
    Actor,
    ActorState,
    ActorTables,
    Kind,
    Lane,
    State,
    is_actor,
    served_as,
)

SMALL_BYTES = 64 << 10  # results up to this size are in the news themselves
RETURN_BYTES = 4  # the end of a result's id, which says the how-manyth of its task it is
THIS_NODE = 0

RECORD = SessionRecord("", "", "", [], "", "", 0, 0, 0, 0.0, 0, 0, 0, 0, "", {})  # nobody reads it

IdRef = tuple[bytes, int]
Times = list[tuple[bytes, int]]
News = tuple[object, ...]
# As `_kernel.SentTask`.
SentTask = tuple[
    bytes, int, IdRef | None, bytes, list[IdRef], list[IdRef], int, int, int, int, int, int, IdRef | None,
    bytes | None, int | None,
]  # fmt: skip


class ModelObjectID:
    """A local reference."""

    __slots__ = ("_arena", "_id")

    def __init__(self, arena: "ModelArena", key: bytes) -> None:
        self._arena = arena
        self._id = key
        arena._entries[key].local += 1

    def binary(self) -> bytes:
        return self._id

    def __del__(self) -> None:
        self._arena._drop_local(self._id)

    def __repr__(self) -> str:
        return f"<{self._id!r}>"


@dataclass(frozen=True, slots=True)
class Large:
    """Stands for many bytes."""

    label: bytes
    size: int

    def __len__(self) -> int:
        return self.size


Data = bytes | Large


@dataclass(slots=True)
class Value:
    """What an object is sealed with."""

    fmt: int
    data: Data
    nested: tuple[bytes, ...] = ()

    @property
    def is_failure(self) -> bool:
        return self.fmt >= _kernel.FORMAT_ERROR


def failure(code: int) -> Value:
    """The kernel's own."""
    return Value(_kernel.FORMAT_SYSTEM, code.to_bytes(4, "little"))


@dataclass(slots=True)
class Entry:
    """One object."""

    owner: int
    value: Value | None = None
    local: int = 0
    edges: int = 0  # from values and tasks
    loans: Counter[int] = field(default_factory=Counter)  # to peers
    notes: Counter[int] = field(default_factory=Counter)  # from peers
    task: bytes | None = None  # that makes it
    located: int = 0  # the peer that has its value
    size: int = 0
    awaited: int = 0  # by threads and tasks here
    wanted: bool = False  # that is, or was, news
    done: bool = False  # so is this
    asked: bool = False  # by `subscribe`
    actor: Actor | None = None  # it is one, or a handle of one: it has no value

    @property
    def references(self) -> int:
        """All that is lent to one peer counts as one."""
        return self.local + self.edges + len(self.loans)

    @property
    def is_result(self) -> bool:
        """Made here for its owner, which has not returned it yet."""
        return self.owner in self.loans

    @property
    def is_kept_for_its_owner(self) -> bool:
        """And for nobody else: what was lent of it may go back."""
        return self.references == 1 and bool(self.notes) and self.value is not None and self.is_result


@dataclass(slots=True)
class Task:
    """One task. Its dependencies, nested ids and returns are edges."""

    id: bytes
    job: int
    payload: bytes
    deps: tuple[bytes, ...]
    nested: tuple[bytes, ...]
    returns: tuple[bytes, ...]
    attempt: int
    retries: int  # attempts beyond the first, in all
    is_received: bool = False
    state: State = State.WAITING
    away: int = 0  # the peer that has it
    held_returns: set[bytes] = field(default_factory=set)  # those it still holds itself
    kind: Kind = Kind.TASK
    actor: bytes = b""  # that it creates or calls
    counts: bool = False  # as one of its actor's references
    lane: Lane | None = None
    sequence: int = 0

    @property
    def name(self) -> bytes:
        """Its id everywhere."""
        return self.id.removesuffix(AROUND_MARK)


def return_id(task: bytes, index: int) -> bytes:
    """As the kernel derives it: the same wherever and how often the task runs."""
    return task + index.to_bytes(RETURN_BYTES, "little")


class ModelArena(ActorTables):
    """The tables of one node."""

    def __init__(self, root: bytes, has_driver: bool = True) -> None:
        """`root`: of its only driver."""
        super().__init__()
        self.problems: list[str] = []
        self.on_news: Callable[[], None] = lambda: None
        self.on_ready: Callable[[], None] = lambda: None
        self.on_freed: Callable[[bytes, Entry], None] = lambda key, entry: None
        self.on_sealed: Callable[[bytes, Entry], None] = lambda key, entry: None
        self.driver_job = 1
        self._entries: dict[bytes, Entry] = {}
        self._tasks: OrderedDict[bytes, Task] = OrderedDict()
        self._peers: dict[int, bytes] = {}
        self._jobs: dict[int, tuple[int, bytes]] = {}  # home and root
        if has_driver:
            self._jobs[self.driver_job] = (THIS_NODE, root)
        self._session = RECORD.dump()
        self._last_peer = 0
        self._last_job = self.driver_job
        self._news: OrderedDict[bytes, None] = OrderedDict()
        self._sequence = 0
        self._closed = False

    # --- local use ---

    def put(self, key: bytes, data: Data, nested: Iterable[ModelObjectID] = ()) -> ModelObjectID:
        assert key not in self._entries
        entry = self._entries[key] = Entry(THIS_NODE)
        oid = ModelObjectID(self, key)
        self._seal(key, entry, Value(0, data, tuple(each.binary() for each in nested)))
        return oid

    def submit(
        self,
        task: bytes,
        job: int,
        deps: Iterable[ModelObjectID],
        nested: Iterable[ModelObjectID],
        num_returns: int,
        retries: int,
    ) -> list[ModelObjectID]:
        dep_ids = tuple(each.binary() for each in deps)
        nested_ids = tuple(each.binary() for each in nested)
        returns = tuple(return_id(task, index) for index in range(num_returns))
        for key in returns:
            assert key not in self._entries
            self._entries[key] = Entry(THIS_NODE, task=task)
        self._add_task(Task(task, job, b"", dep_ids, nested_ids, returns, 0, retries))
        return [ModelObjectID(self, key) for key in returns]

    def create_actor(
        self, task: bytes, job: int, deps: Iterable[ModelObjectID], nested: Iterable[ModelObjectID]
    ) -> ModelObjectID:
        key = task + ACTOR_END
        self._add_actor(key, THIS_NODE, Actor(key, job, creation=task))
        oid = ModelObjectID(self, key)
        dep_ids, nested_ids = tuple(each.binary() for each in deps), tuple(each.binary() for each in nested)
        self._add_task(Task(task, job, b"", dep_ids, nested_ids, (), 0, 0, kind=Kind.CREATE, actor=key))
        return oid

    def call(
        self,
        actor: ModelObjectID,
        task: bytes,
        job: int,
        caller: Hashable,
        deps: Iterable[ModelObjectID],
        nested: Iterable[ModelObjectID],
        num_returns: int,
    ) -> list[ModelObjectID]:
        dep_ids, nested_ids = tuple(each.binary() for each in deps), tuple(each.binary() for each in nested)
        returns = tuple(return_id(task, index) for index in range(num_returns))
        for key in returns:
            self._entries[key] = Entry(THIS_NODE, task=task)
        oids = [ModelObjectID(self, key) for key in returns]
        served = self._called_as(actor.binary(), caller)
        call = Task(task, job, b"", dep_ids, nested_ids, returns, 0, 0, kind=Kind.CALL, actor=served.key)
        self._add_task(call)
        self._launch(call, lambda: self._lane_for(served, caller))
        return oids

    def is_ready(self, oid: ModelObjectID) -> bool:
        entry = self._entries[oid.binary()]
        return entry.value is not None or entry.actor is not None

    def value(self, oid: ModelObjectID) -> Value:
        value = self._entries[oid.binary()].value
        assert value is not None
        return value

    def get(self, oid: ModelObjectID, timeout_ms: int) -> tuple[int, Data]:
        value = self.value(oid)
        return value.fmt, value.data

    def described(self, oid: ModelObjectID) -> tuple[int, int] | None:
        value = self._entries[oid.binary()].value
        return None if value is None else (value.fmt, len(value.data))

    def hold(self, key: bytes) -> ModelObjectID:
        """A reference to what is known to be here: an id inside a value or a task."""
        return ModelObjectID(self, key)

    def await_value(self, oid: ModelObjectID) -> None:
        """Somebody waits for it from now on."""
        self._await(oid.binary(), self._entries[oid.binary()])

    def seal(
        self, oid: ModelObjectID, data: Data, fmt: int, nested: Iterable[ModelObjectID] | None = None
    ) -> bool:
        entry = self._entries[oid.binary()]
        if entry.value is not None:
            return False
        self._seal(oid.binary(), entry, Value(fmt, data, tuple(each.binary() for each in nested or ())))
        return True

    # --- workers ---

    def take(self) -> Task | None:
        """The oldest ready task runs from now on."""
        for task in self._tasks.values():
            if task.state is State.READY:
                task.state = State.RUNNING
                return task
        return None

    def finish(self, task: Task, results: list[Value]) -> bool:
        """Seals its results. False: it is not this arena's any more."""
        if self._tasks.get(task.id) is not task:
            return False
        if task.actor:
            self._actor_did(task)
        for key, value in zip(task.returns, results, strict=True):
            # One that is freed already was made by an earlier run of this task.
            entry = self._entries.get(key)
            if entry is not None and entry.value is None:
                self._seal(key, entry, value)
        if self._tasks.get(task.id) is task:
            self._end_task(task)
        return True

    # --- jobs ---

    def drivers(self) -> list[tuple[int, bytes]]:
        return [(job, root) for job, (home, root) in self._jobs.items() if home == THIS_NODE]

    def job_root(self, job: int) -> tuple[int, bytes] | None:
        return self._jobs.get(job)

    def enter_guest(self, home: int, root: bytes) -> int:
        self._must_be_peer(home)
        for job, known in self._jobs.items():
            if known == (home, root):
                return job
        self._last_job += 1
        self._jobs[self._last_job] = (home, root)
        return self._last_job

    def bury_guest(self, job: int) -> None:
        self._jobs.pop(job, None)

    def guests(self) -> list[tuple[int, int, bytes]]:
        return [(job, home, root) for job, (home, root) in self._jobs.items() if home != THIS_NODE]

    def end_jobs(self) -> None:
        """Also what runs: as if it were stopped at once. Calls are their actor's, which may be another job's,
        unless they are away."""
        self._end_jobs_of_actors(self._jobs)
        for task in list(self._tasks.values()):
            is_its_actor_s = task.kind is not Kind.TASK and task.state is not State.AWAY
            if is_its_actor_s or task.job in self._jobs or self._tasks.get(task.id) is not task:
                continue
            self._fail(task, _kernel.JOB_ENDED)

    # --- peers ---

    def enter_peer(self, node: bytes) -> int:
        for number, known in self._peers.items():
            if known == node:
                return number
        self._last_peer += 1
        self._peers[self._last_peer] = node
        return self._last_peer

    def peers(self) -> list[tuple[int, bytes]]:
        return list(self._peers.items())

    def bury_peer(self, peer: int) -> None:
        self._must_be_peer(peer)
        for job, home, _ in self.guests():
            if home == peer:
                self.bury_guest(job)
        for key, entry in list(self._entries.items()):
            entry.notes.pop(peer, None)
            if entry.loans.pop(peer, 0):
                self._look(key)
        for task in sorted(self._tasks.values(), key=lambda task: -task.sequence):
            if task.state is State.AWAY and task.away == peer and self._tasks.get(task.id) is task:
                self._come_back(task, died=True)
        for actor in list(self._actors.values()):
            if actor.state is ActorState.AWAY and actor.peer == peer:
                self._lose(actor, _kernel.ACTOR_NODE_DIED)
        for key, entry in list(self._entries.items()):
            if entry.owner == peer:
                entry.owner = entry.located = THIS_NODE
                entry.done = entry.wanted = entry.asked = False
                is_lost = entry.value is None and entry.task is None and entry.actor is None
                if is_lost and entry.references:
                    self._seal(key, entry, failure(_kernel.OBJECT_LOST))
        del self._peers[peer]

    def foreign(self, ref: IdRef) -> ModelObjectID:
        key, owner = ref
        if key not in self._entries:
            if owner != THIS_NODE:
                self._must_be_peer(owner)
            if is_actor(key):
                self._refer(key, THIS_NODE if key.endswith(SERVED_END) else owner)
                return ModelObjectID(self, key)
            entry = self._entries[key] = Entry(owner)
            if owner == THIS_NODE:
                entry.value = failure(_kernel.OBJECT_LOST)
        return ModelObjectID(self, key)

    def _refer(self, key: bytes, owner: int) -> None:
        """A handle of another node's actor; of one of this node's that is gone, if there is no owner."""
        state = ActorState.AWAY if owner else ActorState.DEAD
        self._add_actor(key, owner, Actor(key, 0, state, owner, failure=0 if owner else _kernel.ACTOR_KILLED))

    def _add_actor(self, key: bytes, owner: int, actor: Actor) -> None:
        assert key not in self._entries
        self._entries[key] = Entry(owner, actor=actor)
        self._actors[key] = actor

    def owner(self, oid: ModelObjectID) -> int:
        return self._entries[oid.binary()].owner

    def lend(self, peer: int, oids: Iterable[ModelObjectID]) -> None:
        self._lend(peer, [oid.binary() for oid in oids])

    def lend_nested(self, peer: int, oid: ModelObjectID) -> list[IdRef]:
        nested = self.value(oid).nested
        self._lend(peer, nested)
        return self._refs(nested)

    def take_back(self, peer: int, returned: Iterable[tuple[bytes, int]]) -> None:
        for key, times in returned:
            entry = self._entries.get(key)
            if entry is None or peer not in entry.loans:
                continue
            if times > entry.loans[peer]:
                self.problems.append(
                    f"{key!r} was returned {times} times, and lent {entry.loans[peer]} times"
                )
            self._set_lent(key, entry, peer, entry.loans[peer] - min(times, entry.loans[peer]))

    def note(self, peer: int, refs: Iterable[IdRef]) -> None:
        self._take_in(peer, refs)

    def notes(self, peer: int) -> Times:
        return [(key, entry.notes[peer]) for key, entry in self._entries.items() if entry.notes[peer]]

    def forget_notes(self, peer: int, ids: Iterable[bytes]) -> Times:
        returned = []
        for key in ids:
            entry = self._entries.get(key)
            if entry and (times := entry.notes.pop(peer, 0)):
                returned.append((key, times))
        return returned

    def loans(self, peer: int) -> Times:
        return [(key, entry.loans[peer]) for key, entry in self._entries.items() if entry.loans[peer]]

    def match_loans(self, peer: int, noted: Iterable[tuple[bytes, int]]) -> None:
        """Loans become what the peer has noted; results for their owner are left as they are."""
        there = dict(noted)
        for key, entry in list(self._entries.items()):
            if peer in entry.loans and entry.owner != peer:
                self._set_lent(key, entry, peer, there.get(key, 0))

    # --- tasks elsewhere ---

    def ready(self) -> int:
        """Tasks that may be sent."""
        return sum(self._may_go(task) for task in self._tasks.values())

    def send_tasks(self, peer: int, shape: int, count: int) -> list[SentTask]:
        """All tasks have one shape."""
        self._must_be_peer(peer)
        sent: list[SentTask] = []
        for task in list(self._tasks.values()):
            if len(sent) == count:
                break
            if not self._may_go(task):
                continue
            if task.kind is Kind.CREATE:
                if not task.returns:  # without one its end would not be heard of
                    task.returns = (return_id(task.id, 0),)
                    self._entries[task.returns[0]] = Entry(THIS_NODE, edges=1, task=task.id)
                    task.held_returns.update(task.returns)
                sent.append((*self._sent(task, peer)[:6], 0, 0, 0, 0, 0, 0, None, None, 0, False, None, 0))
                self._settle(task, peer)
            else:
                sent.append(self._sent(task, peer))
        return sent

    def _sent(self, task: Task, peer: int) -> SentTask:
        task.state = State.AWAY
        task.away = peer
        self._lend(peer, (*task.deps, *task.nested))
        deps, nested = self._refs(task.deps), self._refs(task.nested)
        retries = max(0, task.retries - task.attempt)
        return (
            task.id, task.job, None, task.payload, deps, nested, len(task.returns), 0, 0, 0, task.attempt,
            retries, None, None, None, False, None, 0,
        )  # fmt: skip

    def away(self, peer: int) -> list[bytes]:
        return [task.id for task in self._tasks.values() if task.state is State.AWAY and task.away == peer]

    def recall(self, peer: int, ids: Iterable[bytes]) -> int:
        count = 0
        for task in self._with_calls(peer, ids):
            if self._tasks.get(task.id) is task and task.state is State.AWAY and task.away == peer:
                self._come_back(task, died=False)
                count += 1
        return count

    def served_actors(self) -> list[ModelObjectID]:
        return []

    def receive_tasks(self, peer: int, tasks: Iterable[SentTask]) -> None:
        self._must_be_peer(peer)
        for sent in tasks:
            task_id, job, _, payload, deps, nested, num_returns, _, _, _, attempt, retries, *rest = sent
            called, after, interval, is_around, _, _ = rest
            held = self._take_in(peer, [*deps, *nested])
            if called is not None:
                if called[0].endswith(SERVED_END) and called[0] not in self._entries:
                    continue  # which its owner recalls
                held += self._take_in(peer, [called])
            returns = tuple(return_id(task_id, index) for index in range(max(1, num_returns)))
            if is_around:  # its results are here already, and so is the task
                returns = tuple(around(key) for key in returns)
                task_id += AROUND_MARK
            first = self._entries.get(returns[0])
            if first is not None and first.owner == peer and first.is_result:
                continue
            if first is not None and first.owner == THIS_NODE:
                continue  # a task of this node's own
            if task_id in self._tasks:
                self.problems.append(f"{task_id!r} is here twice")
                continue
            for key in returns:
                entry = self._entries.setdefault(key, Entry(peer))
                if entry.value is None:
                    entry.task = task_id
                    entry.wanted = False
                else:
                    entry.done = True
                    self._add_news(key)
                self._lend_one(entry, peer)
            dep_ids, nested_ids = tuple(key for key, _ in deps), tuple(key for key, _ in nested)
            task = Task(task_id, job, payload, dep_ids, nested_ids, returns, attempt, attempt + retries, True)
            if interval is not None:
                task.kind, task.actor = Kind.CREATE, task_id + SERVED_END
                self._add_actor(task.actor, peer, Actor(task.actor, job, creation=task_id))
                self._lend_one(self._entries[task.actor], peer)
            elif called is not None:
                task.kind, task.actor = Kind.CALL, called[0]
            self._add_task(task)
            if task.kind is Kind.CALL:
                self._launch(task, partial(self._lane_of_received, self._actors[task.actor], after))
            del held

    def received(self, peer: int) -> list[bytes]:
        """Its tasks whose results it has not returned, those that are not done among them."""
        of_peer = [
            key[:-RETURN_BYTES]
            for key, entry in self._entries.items()
            if entry.owner == peer and entry.is_result
        ]
        return list(dict.fromkeys(of_peer))

    def drop_received(self, peer: int, ids: Iterable[bytes]) -> list[bytes]:
        """Those that have not begun; their results come from elsewhere."""
        dropped = []
        for task_id in ids:
            task = self._tasks.get(task_id)
            if task is None or not task.is_received or task.state not in (State.READY, State.WAITING):
                continue
            if task.kind is not Kind.TASK:
                continue
            if self._entries[task.returns[0]].owner != peer:
                continue
            # Held, as it is looked at again below.
            held = [ModelObjectID(self, key) for key in task.returns if key in task.held_returns]
            self._end_task(task)
            for oid in held:
                entry = self._entries[oid.binary()]
                if entry.awaited:
                    self._want(oid.binary(), entry)
                self._set_lent(oid.binary(), entry, peer, 0)
            del held
            dropped.append(task_id)
        return dropped

    def finish_return(
        self,
        peer: int,
        key: bytes,
        fmt: int,
        data: Data | None,
        size: int,
        nested: Iterable[IdRef],
        failed: bool = False,
        turn: int = 0,
    ) -> bool:
        nested = list(nested)
        held = self._take_in(peer, nested)
        key = as_owned(key)
        entry = self._entries.get(key)
        if entry is None or not entry.references or entry.value is not None:
            return False
        task = self._tasks.get(entry.task) if entry.task is not None else None
        if data is None:
            if task is None or task.state is not State.AWAY or task.away != peer:
                return False
            if not entry.located:
                entry.located = peer
                entry.size = size
                entry.wanted = False
                if entry.awaited or entry.is_result:  # another node's in turn: it is fetched for it
                    self._want(key, entry)
                if entry.asked:
                    self._add_news(key)
            if key in task.held_returns:
                task.held_returns.discard(key)
                self._drop_edge(key)
        else:
            self._seal(key, entry, Value(fmt, data, tuple(inner for inner, _ in nested)))
        del held
        if task is not None:
            self._end_if_complete(task)
        return True

    def location(self, oid: ModelObjectID) -> tuple[int, int, int] | None:
        entry = self._entries[oid.binary()]
        return (entry.located, entry.size, 0) if entry.located and entry.actor is None else None

    def subscribe(self, oid: ModelObjectID) -> bool:
        entry = self._entries[oid.binary()]
        if entry.value is not None or entry.located:
            return False
        entry.asked = True
        return True

    # --- news ---

    def news(self, max_items: int, timeout_ms: int) -> list[News]:
        """Why an object is in the list stands in its entry; what is gone is freed by this."""
        found: list[News] = []
        while self._news and len(found) < max_items:
            key, _ = self._news.popitem(last=False)
            entry = self._entries[key]
            if not entry.references:
                located = entry.located
                noted = self._take_notes(entry)
                self._free(key, entry)
                if noted or located:
                    name = served_as(key, entry.owner) if entry.actor and located else key
                    found.append((_kernel.NEWS_GONE, name, entry.owner, noted, located))
            elif entry.actor is not None:
                if (item := self._actor_news(key, self.hold)) is not None:
                    found.append(item)
            elif entry.done:
                entry.done = False
                if entry.is_result:
                    found.append(self._done(key, entry))
                self._add_what_is_left(key, entry)
            elif entry.asked and (entry.value is not None or entry.located):
                entry.asked = False
                self._add_what_is_left(key, entry)
                found.append((_kernel.NEWS_SEALED, ModelObjectID(self, key)))
            elif entry.wanted and self._must_be_fetched(entry):
                found.append((_kernel.NEWS_WANTED, ModelObjectID(self, key)))
            elif entry.is_kept_for_its_owner:
                found.append((_kernel.NEWS_GONE, key, entry.owner, self._take_notes(entry), 0))
        return found

    def renew_news(self, peer: int) -> None:
        """Results that the peer has not returned, and what is awaited of it, are news again."""
        self._must_be_peer(peer)
        for key, entry in self._entries.items():
            if (entry.located or entry.owner) != peer or not entry.references or entry.actor:
                continue
            if entry.value is not None and entry.is_result:
                entry.done = True
                self._add_news(key)
            elif entry.wanted and self._must_be_fetched(entry):
                self._add_news(key)
        self._renew_calls(peer)

    # --- the session ---

    def session(self) -> bytes:
        return self._session

    def set_session(self, record: bytes) -> None:
        self._session = record

    def stats(self) -> dict[str, int]:
        return {"tasks": len(self._tasks)}

    # --- looking ---

    def entry(self, key: bytes) -> Entry | None:
        return self._entries.get(key)

    def is_used(self, key: bytes) -> bool:
        """By more than the task that makes it here, and its owner for which it is kept."""
        entry = self._entries[key]
        task = self._tasks.get(entry.task) if entry.task is not None else None
        is_made = task is not None and key in task.held_returns
        return entry.references > entry.is_result + is_made

    def node_of(self, peer: int) -> bytes | None:
        return self._peers.get(peer)

    def close(self) -> None:
        """The node is dead; what is left of Python objects may go in any order."""
        self._closed = True

    def contents(self) -> str:
        """What is here, for people."""
        entries = [f"  {key!r}: {entry}" for key, entry in self._entries.items()]
        return "\n".join([*entries, *(f"  {task}" for task in self._tasks.values())])

    def is_empty(self) -> bool:
        return not self._entries and not self._tasks

    # --- inside ---

    def _must_be_peer(self, peer: int) -> None:
        if peer not in self._peers:
            raise _kernel.StaleHandle("this node is not known, or has died")

    def _refs(self, ids: Iterable[bytes]) -> list[IdRef]:
        return [(key, self._entries[key].owner) for key in ids]

    def _take_in(self, peer: int, refs: Iterable[IdRef]) -> list[ModelObjectID]:
        """Held, and noted from that peer."""
        self._must_be_peer(peer)
        held = []
        for ref in refs:
            held.append(self.foreign(ref))
            entry = self._entries[ref[0]]
            if entry.owner != THIS_NODE:
                entry.notes[peer] += 1
        return held

    def _lend(self, peer: int, ids: Iterable[bytes]) -> None:
        self._must_be_peer(peer)
        for key in ids:
            entry = self._entries[key]
            if entry.owner != peer:
                self._lend_one(entry, peer)

    def _lend_one(self, entry: Entry, peer: int) -> None:
        entry.loans[peer] += 1

    def _set_lent(self, key: bytes, entry: Entry, peer: int, times: int) -> None:
        if times:
            entry.loans[peer] = times
        elif entry.loans.pop(peer, 0):
            self._look(key)

    def _take_notes(self, entry: Entry) -> list[tuple[int, int]]:
        noted = list(entry.notes.items())
        entry.notes.clear()
        return noted

    def _done(self, key: bytes, entry: Entry) -> News:
        value = entry.value
        assert value is not None
        self._lend(entry.owner, value.nested)
        size = len(value.data)
        data = value.data if size <= SMALL_BYTES else None
        return (
            _kernel.NEWS_DONE, entry.owner, key, value.fmt, data, size, self._refs(value.nested), False, 0
        )  # fmt: skip

    def _add_what_is_left(self, key: bytes, entry: Entry) -> None:
        """An object may be in the list for more than one reason."""
        is_asked = entry.asked and entry.value is not None
        is_wanted = entry.wanted and self._must_be_fetched(entry)
        if is_asked or is_wanted or entry.is_kept_for_its_owner:
            self._add_news(key)

    def _add_news(self, key: bytes) -> None:
        if key not in self._news:
            self._news[key] = None
            self.on_news()

    def _await(self, key: bytes, entry: Entry) -> None:
        entry.awaited += 1
        self._want(key, entry)

    def _must_be_fetched(self, entry: Entry) -> bool:
        """Nothing of this node will give it its value."""
        is_elsewhere = entry.located or (entry.owner != THIS_NODE and entry.task is None)
        return entry.value is None and entry.actor is None and bool(is_elsewhere)

    def _want(self, key: bytes, entry: Entry) -> None:
        if self._must_be_fetched(entry) and not entry.wanted:
            entry.wanted = True
            self._add_news(key)

    def _may_go(self, task: Task) -> bool:
        return task.state is State.READY and not task.is_received

    def _launch(self, call: Task, lane: Callable[[], Lane]) -> None:
        actor = self._actors[call.actor]
        if actor.state is ActorState.DEAD:
            self._fail(call, actor.failure)
        else:
            self._line_up(call, lane())

    def _add_task(self, task: Task) -> None:
        self._sequence += 1
        task.sequence = self._sequence
        self._tasks[task.id] = task
        if task.actor:
            self._entries[task.actor].edges += 1
            task.counts = True
        for key in (*task.deps, *task.nested, *task.returns):
            self._entries[key].edges += 1
        task.held_returns.update(task.returns)
        self._make_ready(task)

    def _make_ready(self, task: Task) -> None:
        task.state = State.WAITING
        pending = [key for key in task.deps if self._entries[key].value is None]
        if not pending and task.kind is not Kind.CALL:
            task.state = State.READY
            self.on_ready()
        for key in pending:
            self._await(key, self._entries[key])

    def _come_back(self, task: Task, died: bool) -> None:
        """Out of the peer's hands: it runs again, unless nothing is left to be made."""
        unmade = [key for key in task.returns if self._relist(task, key)]
        task.away = THIS_NODE
        if task.kind is Kind.CREATE:
            self._creation_comes_back(task, bool(unmade) and not died)
        elif task.lane is not None and unmade:
            self._unsend(task)
        elif not unmade:
            self._end_task(task)
        elif task.kind is Kind.CALL or (died and task.attempt >= task.retries):
            # What a call has done to its actor is done.
            self._fail(task, _kernel.NODE_DIED)
        else:
            task.attempt += died
            self._make_ready(task)

    def _relist(self, task: Task, key: bytes) -> bool:
        """A result that was stored where the task has been is not any more; whether it is to be made."""
        entry = self._entries.get(key)
        if entry is None or entry.value is not None:
            return False
        if not entry.located:
            return True
        entry.located = THIS_NODE
        entry.wanted = False
        if not entry.references:  # in the list of news, to be freed
            return False
        task.held_returns.add(key)
        entry.edges += 1
        return True

    def _fail(self, task: Task, code: int) -> None:
        for key in [key for key in task.returns if key in task.held_returns]:
            entry = self._entries[key]
            if entry.value is None:
                self._seal(key, entry, failure(code))
        is_stored = any(self._is_stored(key) for key in task.returns) or self._is_lineage_of_actor(task)
        if self._tasks.get(task.id) is task and not is_stored:
            self._end_task(task)

    def _is_lineage_of_actor(self, task: Task) -> bool:
        entry = self._entries.get(task.actor)
        return task.kind is Kind.CREATE and entry is not None and entry.task == task.id

    def _is_stored(self, key: bytes) -> bool:
        entry = self._entries.get(key)
        return entry is not None and entry.value is None and bool(entry.located)

    def _end_task(self, task: Task) -> None:
        self._leave_lane(task)
        del self._tasks[task.id]
        for key in task.returns:
            if (made := self._entries.get(key)) is not None:
                made.task = None
        held = [key for key in task.returns if key in task.held_returns]
        task.held_returns.clear()
        for key in (*held, *task.deps, *task.nested):
            self._drop_edge(key)
        self._release_actor(task)

    def _end_if_complete(self, task: Task) -> None:
        """No return is pending, and none is located elsewhere with this task as its lineage."""
        if self._tasks.get(task.id) is not task or task.state is not State.AWAY:
            return
        if task.actor and not task.held_returns:
            self._leave_lane(task)
            self._release_actor(task)
            if self._tasks.get(task.id) is not task or self._is_lineage_of_actor(task):
                return
        entries = [self._entries.get(key) for key in task.returns]
        # One that was freed may have come back as an id of another node's, and is none of the task's then.
        own = [entry for entry in entries if entry is not None and entry.task == task.id]
        if all(entry.value is not None for entry in own):
            self._end_task(task)

    def _seal(self, key: bytes, entry: Entry, value: Value) -> None:
        for each in value.nested:
            self._entries[each].edges += 1
        entry.value = value
        entry.located = THIS_NODE
        entry.wanted = False
        entry.awaited = 0
        self.on_sealed(key, entry)
        if entry.is_result:
            entry.done = True
        if entry.is_result or entry.asked:
            self._add_news(key)
        for task in self._tasks.values():
            if task.state is not State.WAITING or key not in task.deps:
                continue
            if task.kind is Kind.CALL:
                self._argument_came(task)
            elif all(self._entries[dep].value is not None for dep in task.deps):
                task.state = State.READY
                self.on_ready()
        if entry.task is not None and (task_of := self._tasks.get(entry.task)) is not None:
            if task_of.state is State.AWAY and key in task_of.held_returns:
                task_of.held_returns.discard(key)
                self._drop_edge(key)
            self._end_if_complete(task_of)

    def _drop_local(self, key: bytes) -> None:
        if not self._closed:
            self._entries[key].local -= 1
            self._look(key)

    def _drop_edge(self, key: bytes) -> None:
        self._entries[key].edges -= 1
        self._look(key)

    def _look(self, key: bytes) -> None:
        """A reference was taken from it."""
        entry = self._entries.get(key)
        if entry is None:
            return
        if entry.references:
            if entry.is_kept_for_its_owner:
                self._add_news(key)
        elif entry.notes or entry.located or key in self._news:
            self._add_news(key)
        else:
            self._free(key, entry)

    def _free(self, key: bytes, entry: Entry) -> None:
        if entry.actor is not None and entry.actor.state is ActorState.ALIVE:
            entry.actor.state = ActorState.DEAD  # its process ends
        del self._entries[key]
        self._actors.pop(key, None)
        self.on_freed(key, entry)
        if entry.value is not None:
            for each in entry.value.nested:
                self._drop_edge(each)
        if entry.task is not None and (task := self._tasks.get(entry.task)) is not None:
            self._end_if_complete(task)
