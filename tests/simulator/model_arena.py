"""A node's tables as the kernel keeps them, in plain Python: the part that other nodes have to do with.

Same meaning as `ray._kernel.Arena` (its section on other nodes), nothing else: no memory, no processes, no
waiting. Simple enough to be seen to be right; each method is one transaction. Local references are
`ModelObjectID`s: the last one gone gives the reference back, at once.

`problems` collects what must never happen, as the arena itself can see it.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

SMALL_BYTES = 64 << 10  # results up to this size are in the news themselves
FORMAT_ERROR = 100
FORMAT_SYSTEM = 201  # the kernel's own failure; here its data is the name of the reason
NEWS_DONE, NEWS_WANTED, NEWS_GONE, NEWS_SEALED = range(4)
THIS_NODE = 0

IdRef = tuple[bytes, int]
Times = list[tuple[bytes, int]]
News = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """What was found to be needed beyond the first design; each can be left out, to see what goes wrong."""

    # Who keeps a result for its owner gives back what the owner has lent of it, once it has no use of its
    # own.
    return_beside_result: bool = True
    # Nothing is lent on a new link before the peer's Sync is taken in, nor kept to be sent then.
    lend_after_sync: bool = True
    # What gives back is sent as soon as this node's own Sync is.
    return_after_own_sync: bool = True
    # Loans of a dead node end some time after it: whoever has ids from it asks their owners first.
    keep_loans_of_dead: bool = True
    # An id of an owner that is dead is taken to be its sender's.
    know_dead: bool = True
    # A value that was asked for at another node than its owner is asked for anew when that link breaks.
    remember_whom: bool = True


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


@dataclass(slots=True)
class Value:
    """What an object is sealed with."""

    fmt: int
    data: bytes
    size: int
    nested: tuple[bytes, ...] = ()

    @property
    def is_failure(self) -> bool:
        return self.fmt >= FORMAT_ERROR


@dataclass(slots=True)
class Entry:
    """One object."""

    owner: int
    value: Value | None = None
    local: int = 0
    edges: int = 0  # from values and tasks
    loans: Counter[int] = field(default_factory=Counter)  # to peers
    notes: Counter[int] = field(default_factory=Counter)  # from peers
    confirmed: bool = False  # its owner has lent it itself, now or before
    task: bytes | None = None  # that makes it
    located: int = 0  # the peer that has its value
    size: int = 0
    awaited: int = 0  # by threads and tasks here
    wanted: bool = False  # that is news already
    subscribed: bool = False

    @property
    def references(self) -> int:
        return self.local + self.edges + self.loans.total()


class State(Enum):
    """Where a task is."""

    WAITING = 0
    READY = 1
    RUNNING = 2
    AWAY = 3


@dataclass(slots=True)
class Task:
    """One task. Its dependencies, nested ids and returns are edges."""

    id: bytes
    payload: bytes
    deps: tuple[bytes, ...]
    nested: tuple[bytes, ...]
    returns: tuple[bytes, ...]
    attempt: int
    retries: int
    origin: int = THIS_NODE
    state: State = State.WAITING
    away: int = 0  # the peer that has it
    held_returns: set[bytes] = field(default_factory=set)  # those it still holds itself


@dataclass(frozen=True, slots=True)
class SentTask:
    """A task on its way. Ids go with the sender's numbers of their owners, until they are translated."""

    id: bytes
    payload: bytes
    deps: tuple[IdRef, ...]
    nested: tuple[IdRef, ...]
    num_returns: int
    attempt: int
    retries: int


def return_id(task: bytes, index: int) -> bytes:
    """As the kernel derives it: the same wherever and how often the task runs."""
    return task + b"." + str(index).encode()


class ModelArena:
    """The tables of one node."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.problems: list[str] = []
        self.on_news: Callable[[], None] = lambda: None
        self.on_ready: Callable[[], None] = lambda: None
        self.on_freed: Callable[[bytes, Entry], None] = lambda key, entry: None
        self.on_sealed: Callable[[bytes, Entry], None] = lambda key, entry: None
        self._entries: dict[bytes, Entry] = {}
        self._tasks: OrderedDict[bytes, Task] = OrderedDict()
        self._peers: dict[int, bytes] = {}
        self._next_peer = 1
        self._news: OrderedDict[tuple[int, bytes], None] = OrderedDict()
        self._closed = False

    # --- local use ---

    def put(self, key: bytes, data: bytes, size: int, nested: Iterable[ModelObjectID] = ()) -> ModelObjectID:
        assert key not in self._entries
        entry = self._entries[key] = Entry(THIS_NODE)
        oid = ModelObjectID(self, key)
        self._seal(key, entry, Value(0, data, size, tuple(each.binary() for each in nested)))
        return oid

    def submit(
        self,
        task: bytes,
        payload: bytes,
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
        self._add_task(Task(task, payload, dep_ids, nested_ids, returns, 0, retries))
        return [ModelObjectID(self, key) for key in returns]

    def is_ready(self, oid: ModelObjectID) -> bool:
        return self._entries[oid.binary()].value is not None

    def value(self, oid: ModelObjectID) -> Value:
        value = self._entries[oid.binary()].value
        assert value is not None
        return value

    def hold(self, key: bytes) -> ModelObjectID:
        """A reference to what is known to be here: an id inside a value or a task."""
        return ModelObjectID(self, key)

    def known(self, key: bytes) -> ModelObjectID | None:
        return ModelObjectID(self, key) if key in self._entries else None

    def await_value(self, oid: ModelObjectID) -> None:
        """Somebody waits for it from now on."""
        self._await(oid.binary(), self._entries[oid.binary()])

    def seal(
        self, oid: ModelObjectID, data: bytes, fmt: int, size: int, nested: Iterable[ModelObjectID]
    ) -> bool:
        entry = self._entries[oid.binary()]
        if entry.value is not None:
            return False
        self._seal(oid.binary(), entry, Value(fmt, data, size, tuple(each.binary() for each in nested)))
        return True

    def lose(self, oid: ModelObjectID) -> None:
        """Its value can't be had any more."""
        entry = self._entries[oid.binary()]
        if entry.value is None and entry.task is None:
            self._seal(oid.binary(), entry, Value(FORMAT_SYSTEM, b"OBJECT_LOST", 0))

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
        for key, value in zip(task.returns, results, strict=True):
            # One that is freed already was made by an earlier run of this task.
            entry = self._entries.get(key)
            if entry is not None and entry.value is None:
                self._seal(key, entry, value)
        if self._tasks.get(task.id) is task:
            self._end_task(task)
        return True

    # --- peers ---

    def enter_peer(self, node: bytes) -> int:
        for number, known in self._peers.items():
            if known == node:
                return number
        number = self._next_peer
        self._next_peer += 1
        self._peers[number] = node
        return number

    def peers(self) -> list[tuple[int, bytes]]:
        return list(self._peers.items())

    def bury_peer(self, peer: int, keep_loans: bool = False) -> None:
        """`keep_loans`: what it was lent stays until `end_loans`."""
        del self._peers[peer]
        for task in list(self._tasks.values()):
            if task.origin == peer:
                self._end_task(task)
            elif task.state is State.AWAY and task.away == peer:
                self._forget_locations(task)
                self._run_again(task)
        for key, entry in list(self._entries.items()):
            entry.notes.pop(peer, None)
            if entry.owner == peer:
                entry.owner = THIS_NODE
                entry.task = None
                entry.confirmed = True
                if entry.value is None and entry.task is None:
                    self._seal(key, entry, Value(FORMAT_SYSTEM, b"OBJECT_LOST", 0))
        if not keep_loans:
            self.end_loans(peer)
        for key in list(self._entries):
            self._look(key)

    def end_loans(self, peer: int) -> None:
        """The second half of a burial."""
        for key, entry in list(self._entries.items()):
            if entry.loans.pop(peer, 0):
                self._look(key)

    def foreign(self, ref: IdRef) -> ModelObjectID:
        key, owner = ref
        if key not in self._entries:
            entry = self._entries[key] = Entry(owner)
            if owner == THIS_NODE:
                self.problems.append(f"{key!r} comes back to its owner, which has freed it")
                entry.value = Value(FORMAT_SYSTEM, b"OBJECT_LOST", 0)
        return ModelObjectID(self, key)

    def owner(self, oid: ModelObjectID) -> int:
        return self._entries[oid.binary()].owner

    def lend(self, peer: int, ids: Iterable[bytes]) -> list[bytes]:
        """Those that are known here; the others are not lent."""
        lent = []
        for key in ids:
            if entry := self._entries.get(key):
                lent.append(key)
                if entry.owner != peer:
                    entry.loans[peer] += 1
        return lent

    def take_back(self, peer: int, returned: Times) -> None:
        for key, times in returned:
            entry = self._entries.get(key)
            if entry is None or not entry.loans[peer]:
                continue
            if times > entry.loans[peer]:
                self.problems.append(
                    f"{key!r} was returned {times} times, and lent {entry.loans[peer]} times"
                )
            entry.loans[peer] -= min(times, entry.loans[peer])
            entry.loans = +entry.loans
            self._look(key)

    def note(self, peer: int, refs: Iterable[IdRef]) -> None:
        for key, owner in refs:
            if owner == THIS_NODE:
                continue
            if key not in self._entries:
                self._entries[key] = Entry(owner)
            entry = self._entries[key]
            entry.notes[peer] += 1
            if entry.owner in (peer, THIS_NODE):
                entry.confirmed = True
            self._look(key)

    def notes(self, peer: int) -> Times:
        return [(key, entry.notes[peer]) for key, entry in self._entries.items() if entry.notes[peer]]

    def forget_notes(self, peer: int, ids: Iterable[bytes]) -> Times:
        """What is to be returned to that peer now, since the owner has lent it itself."""
        returned = []
        for key in ids:
            entry = self._entries.get(key)
            if entry and peer != entry.owner and entry.confirmed and entry.notes[peer]:
                returned.append((key, entry.notes.pop(peer)))
                self._look(key)
        return returned

    def unconfirmed(self) -> list[IdRef]:
        """Ids that others than their owner have sent, and their owner has not."""
        return [
            (key, entry.owner)
            for key, entry in self._entries.items()
            if entry.owner != THIS_NODE and not entry.confirmed and entry.notes
        ]

    def confirm(self, key: bytes) -> None:
        """Nothing more is to be had from its owner: what others have lent may go back."""
        if entry := self._entries.get(key):
            entry.confirmed = True
            self._look(key)

    def noted_from_others(self) -> list[bytes]:
        """Ids that are confirmed, or this node's own by now, and still noted from others."""
        return [
            key
            for key, entry in self._entries.items()
            if entry.confirmed and set(entry.notes) - {entry.owner}
        ]

    def loans(self, peer: int) -> Times:
        return [(key, entry.loans[peer]) for key, entry in self._entries.items() if entry.loans[peer]]

    def match_loans(self, peer: int, noted: Times) -> None:
        """Loans become what the peer has noted; results for their owner are left as they are."""
        there = dict(noted)
        for key, entry in list(self._entries.items()):
            if entry.owner == peer:
                continue
            times = there.get(key, 0)
            if times != entry.loans[peer]:
                entry.loans[peer] = times
                entry.loans = +entry.loans
                self._look(key)

    # --- tasks elsewhere ---

    def ready(self) -> int:
        """Tasks that may be sent."""
        return sum(task.state is State.READY and task.origin == THIS_NODE for task in self._tasks.values())

    def send_tasks(self, peer: int, count: int) -> list[SentTask]:
        sent: list[SentTask] = []
        for task in list(self._tasks.values()):
            if len(sent) == count:
                break
            if task.state is not State.READY or task.origin != THIS_NODE:
                continue
            task.state = State.AWAY
            task.away = peer
            self.lend(peer, (*task.deps, *task.nested))
            sent.append(
                SentTask(
                    task.id,
                    task.payload,
                    self._refs(task.deps),
                    self._refs(task.nested),
                    len(task.returns),
                    task.attempt,
                    task.retries,
                )
            )
        return sent

    def away(self, peer: int) -> list[bytes]:
        return [task.id for task in self._tasks.values() if task.state is State.AWAY and task.away == peer]

    def recall(self, peer: int, ids: Iterable[bytes]) -> int:
        count = 0
        for key in ids:
            task = self._tasks.get(key)
            if task and task.state is State.AWAY and task.away == peer:
                self._forget_locations(task)
                task.away = 0
                task.state = State.WAITING
                self._make_ready(task)
                count += 1
        return count

    def receive_tasks(self, peer: int, tasks: Iterable[SentTask]) -> None:
        for sent in tasks:
            if sent.id in self._tasks:
                continue
            refs = [*sent.deps, *sent.nested]
            held = [self.foreign(ref) for ref in refs]
            returns = tuple(return_id(sent.id, index) for index in range(sent.num_returns))
            for key in returns:
                entry = self._entries.setdefault(key, Entry(peer))
                entry.task = sent.id
                entry.loans[peer] = 1
            self._add_task(
                Task(
                    sent.id,
                    sent.payload,
                    tuple(key for key, _ in sent.deps),
                    tuple(key for key, _ in sent.nested),
                    returns,
                    sent.attempt,
                    sent.retries,
                    peer,
                )
            )
            self.note(peer, refs)
            for key in returns:
                if self._entries[key].value is not None:
                    self._add_news(NEWS_DONE, key)
            del held

    def received(self, peer: int) -> list[bytes]:
        """Its tasks that are not done, or have results here for it."""
        unfinished = [task.id for task in self._tasks.values() if task.origin == peer]
        results = [
            entry.task
            for entry in self._entries.values()
            if entry.owner == peer and entry.task is not None and entry.loans[peer]
        ]
        return list(dict.fromkeys([*unfinished, *results]))

    def finish_return(
        self, peer: int, key: bytes, fmt: int, data: bytes | None, size: int, nested: Iterable[IdRef]
    ) -> bool:
        """False: it had its value, or nothing here refers to it. Nothing was noted then."""
        entry = self._entries.get(key)
        if entry is None or entry.value is not None or entry.owner != THIS_NODE:
            return False
        task = self._tasks.get(entry.task) if entry.task is not None else None
        if task is None or task.state is not State.AWAY or task.away != peer:
            return False
        nested = list(nested)
        if data is None:
            entry.located = peer
            entry.size = size
            if entry.awaited:
                self._want(key, entry)
            if key in task.held_returns:
                task.held_returns.discard(key)
                self._drop_edge(key)
        else:
            held = [self.foreign(ref) for ref in nested]
            self.note(peer, nested)
            self._seal(key, entry, Value(fmt, data, size, tuple(each for each, _ in nested)))
            del held
        self._end_if_complete(task)
        return True

    def location(self, oid: ModelObjectID) -> int:
        """The peer that has its value; 0: none."""
        return self._entries[oid.binary()].located

    def value_for(self, peer: int, oid: ModelObjectID) -> tuple[int, bytes | None, int, list[IdRef]] | None:
        """Format, data or None for a large one, size and nested ids, which are lent to the peer.

        None: not here.
        """
        value = self._entries[oid.binary()].value
        if value is None:
            return None
        self.lend(peer, value.nested)
        data = value.data if value.size <= SMALL_BYTES else None
        return value.fmt, data, value.size, list(self._refs(value.nested))

    def subscribe(self, oid: ModelObjectID) -> None:
        """Its seal will be news; and it is awaited from now on, for somebody elsewhere."""
        entry = self._entries[oid.binary()]
        entry.subscribed = True
        self._await(oid.binary(), entry)

    # --- news ---

    def news(self) -> list[News]:
        """All there are. What is gone is freed by this."""
        found: list[News] = []
        while self._news:
            (kind, key), _ = self._news.popitem(last=False)
            entry = self._entries.get(key)
            if entry is None:
                continue
            if kind == NEWS_DONE:
                value = entry.value
                if entry.loans[entry.owner] and value is not None:
                    # A large one stays here, and the ids in it with it: they are lent to whoever fetches it.
                    is_small = value.size <= SMALL_BYTES
                    nested = self._refs(value.nested) if is_small else ()
                    self.lend(entry.owner, [each for each, _ in nested])
                    data = value.data if is_small else None
                    found.append((NEWS_DONE, entry.owner, key, value.fmt, data, value.size, list(nested)))
            elif kind == NEWS_WANTED:
                if entry.value is None:
                    found.append((NEWS_WANTED, ModelObjectID(self, key)))
            elif kind == NEWS_SEALED:
                found.append((NEWS_SEALED, ModelObjectID(self, key)))
            elif self._is_unused(entry):
                noted = list(entry.notes.items())
                entry.notes.clear()
                if not entry.references:
                    self._free(key, entry)
                found.append((NEWS_GONE, key, entry.owner, noted, entry.located))
        return found

    def renew_news(self, peer: int) -> None:
        """Results that the peer has not returned, and what is awaited of it, are news again."""
        for key, entry in self._entries.items():
            if entry.owner == peer and entry.loans[peer] and entry.value is not None:
                self._add_news(NEWS_DONE, key)
            if entry.value is None and peer in (entry.owner, entry.located) and entry.wanted:
                self._add_news(NEWS_WANTED, key)

    def renew_all_wanted(self) -> None:
        """A node manager begins anew: nobody remembers what was asked for."""
        for key, entry in self._entries.items():
            if entry.value is None and entry.wanted:
                self._add_news(NEWS_WANTED, key)
            if entry.value is not None and entry.owner != THIS_NODE and entry.loans[entry.owner]:
                self._add_news(NEWS_DONE, key)

    def entry(self, key: bytes) -> Entry | None:
        """For checks."""
        return self._entries.get(key)

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

    def _refs(self, ids: Iterable[bytes]) -> tuple[IdRef, ...]:
        return tuple((key, self._entries[key].owner) for key in ids)

    def _add_news(self, kind: int, key: bytes) -> None:
        self._news[kind, key] = None
        self.on_news()

    def _await(self, key: bytes, entry: Entry) -> None:
        entry.awaited += 1
        self._want(key, entry)

    def _want(self, key: bytes, entry: Entry) -> None:
        is_elsewhere = entry.located or (entry.owner != THIS_NODE and entry.task is None)
        if entry.value is None and is_elsewhere and not entry.wanted:
            entry.wanted = True
            self._add_news(NEWS_WANTED, key)

    def _add_task(self, task: Task) -> None:
        self._tasks[task.id] = task
        for key in (*task.deps, *task.nested, *task.returns):
            self._entries[key].edges += 1
        task.held_returns.update(task.returns)
        self._make_ready(task)

    def _make_ready(self, task: Task) -> None:
        pending = [key for key in task.deps if self._entries[key].value is None]
        if not pending:
            task.state = State.READY
            self.on_ready()
        for key in pending:
            self._await(key, self._entries[key])

    def _forget_locations(self, task: Task) -> None:
        """Results that were stored where it has been are not any more: it makes them again."""
        for key in task.returns:
            entry = self._entries.get(key)
            if entry is not None and entry.located:
                entry.located = 0
                entry.wanted = False
                task.held_returns.add(key)
                entry.edges += 1

    def _run_again(self, task: Task) -> None:
        if task.attempt >= task.retries:
            for key in task.returns:
                entry = self._entries.get(key)
                if entry is not None and entry.value is None:
                    self._seal(key, entry, Value(FORMAT_SYSTEM, b"NODE_DIED", 0))
            if task.id in self._tasks:
                self._end_task(task)
            return
        task.attempt += 1
        task.away = 0
        task.state = State.WAITING
        self._make_ready(task)

    def _end_task(self, task: Task) -> None:
        del self._tasks[task.id]
        held = list(task.held_returns)
        task.held_returns.clear()
        for key in held:
            # An owner's result without a value, of a task that ends: its node is gone.
            self._drop_edge(key)
        for key in (*task.deps, *task.nested):
            self._drop_edge(key)
        for key in task.returns:
            if (entry := self._entries.get(key)) and task.origin == THIS_NODE:
                entry.task = None

    def _end_if_complete(self, task: Task) -> None:
        """No return is pending, and none is located elsewhere with this task as its lineage."""
        if self._tasks.get(task.id) is not task or task.state is not State.AWAY:
            return
        for key in task.returns:
            entry = self._entries.get(key)
            if entry is not None and entry.value is None:
                return
        self._end_task(task)

    def _seal(self, key: bytes, entry: Entry, value: Value) -> None:
        for each in value.nested:
            self._entries[each].edges += 1
        entry.value = value
        entry.located = 0
        entry.wanted = False
        entry.awaited = 0
        self.on_sealed(key, entry)
        if entry.subscribed:
            entry.subscribed = False
            self._add_news(NEWS_SEALED, key)
        if entry.owner != THIS_NODE and entry.loans[entry.owner]:
            self._add_news(NEWS_DONE, key)
        for task in self._tasks.values():
            if task.state is not State.WAITING or key not in task.deps:
                continue
            if all(self._entries[dep].value is not None for dep in task.deps):
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

    def _is_unused(self, entry: Entry) -> bool:
        """Whether what was lent for it may go back: nothing here refers to it.

        A result that is kept here for its owner is not used here: if it were, the owner would keep it for us,
        and we for the owner, for ever.
        """
        used = entry.references
        if entry.owner != THIS_NODE and self.rules.return_beside_result:
            used -= entry.loans[entry.owner]
        return not used

    def _look(self, key: bytes) -> None:
        """Something was taken from it."""
        entry = self._entries.get(key)
        if entry is None or not self._is_unused(entry):
            return
        if entry.owner == THIS_NODE and not entry.notes and not entry.located:
            self._free(key, entry)
        elif entry.notes or not entry.references:
            self._add_news(NEWS_GONE, key)

    def _free(self, key: bytes, entry: Entry) -> None:
        del self._entries[key]
        self.on_freed(key, entry)
        if entry.value is not None:
            for each in entry.value.nested:
                self._drop_edge(each)
        if entry.task is not None and (task := self._tasks.get(entry.task)) is not None:
            self._end_if_complete(task)
