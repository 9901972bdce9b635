"""The kernel: one node's shared tables, queues and heap, changed in crash-safe transactions.

It knows no network, no pickle and no Redis.  A value is a run of bytes with a *format* number
that only the serialization package understands, and the ids it contains.
"""

import types
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

_T = TypeVar("_T")

# --- numbers ---------------------------------------------------------------------------------

UNIT: int  # 10_000: resources are whole numbers of 1/10,000
INLINE_BYTES: int  # values up to this size sit in the object's own record
COPY_BYTES: int  # values up to this size are copied inside one transaction

LAYOUT_VERSION: int  # of the arena: all processes must have the same

# kinds of process
DRIVER: int
WORKER: int
NODE_MANAGER: int
KEEPER: int
TEMPLATE: int
PEER: int  # another node, as this one knows it
GUEST: int  # a driver of another node

# formats the kernel itself writes; all others are the caller's (0 to 199)
FORMAT_ALIAS: int  # 200: no data; one contained id, whose value this object shares
FORMAT_SYSTEM: int  # 201: the kernel's own failure; data is struct "<iiiI20s": code, exit status, pid, attempt,
#                     id of the task's function, the actor's class or the lost object

# codes inside FORMAT_SYSTEM
WORKER_DIED: int
ACTOR_DIED: int
ACTOR_KILLED: int
TASK_STOPPED: int
ACTOR_STOPPED: int
OBJECT_LOST: int
JOB_ENDED: int
NODE_DIED: int
ACTOR_NODE_DIED: int

# formats from here up to 255 are failures as well: FORMAT_ALIAS follows what it points to
FORMAT_ERROR: int  # 100: caller's formats 100..199 are errors, 0..99 are values

# kinds of task that `next` hands out
TASK: int
ACTOR_CREATE: int
ACTOR_CALL: int

# kinds of journal entry
JOURNAL_ERROR: int
JOURNAL_FUNCTION: int
JOURNAL_JOB: int
JOURNAL_NOTE: int

# kinds of news
NEWS_DONE: int
NEWS_WANTED: int
NEWS_GONE: int
NEWS_SEALED: int
NEWS_QUEUED: int
NEWS_CALLS: int
NEWS_CHECKPOINT: int

class KernelError(Exception): ...
class StoreFull(KernelError): ...  # no room in the heap: args = (wanted, capacity, used) bytes, nothing may be spilled
class SpillFailed(KernelError): ...  # the spill file took nothing: args = (errno,)
class DirectoryFull(KernelError): ...  # no room in the arena's folder, or of huge pages: args = (errno,)
class SystemFailed(KernelError): ...  # a call of the system that should not fail: args = (text, errno)
class TableFull(KernelError): ...  # args = (table, capacity)
class StaleHandle(KernelError): ...  # the object, task or actor is gone
class ArenaCorrupt(KernelError): ...  # failed a check; the arena is closed
class ArenaClosed(KernelError): ...  # after close(), or the session is ending
class Forked(KernelError): ...  # this process was forked from the one that joined
class NoWorkerLeft(KernelError): ...  # all workers wait for tasks that need one more: args = (limit,)
class WaitTimeout(KernelError): ...

class ObjectID:
    """A counted reference to one object of a node.

    `ObjectID(b)` from 20 bytes resolves in the process's current arena while the object lives;
    otherwise using it raises StaleHandle.  Copying or unpickling adds to this process's count;
    the process's last one gone gives the reference back.
    """

    def __new__(cls, data: bytes, key: int = 0) -> ObjectID: ...
    def binary(self) -> bytes: ...
    def id(self) -> bytes: ...
    def hex(self) -> str: ...
    @property
    def key(self) -> int: ...  # index and serial in one number: unique within the arena, for ever
    def __hash__(self) -> int: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __reduce__(self) -> tuple[types.FunctionType, tuple[bytes, int]]: ...

def collect(function: Callable[..., _T], *args: object) -> tuple[_T, list[ObjectID] | None]:
    """What the function returns, and the ids that this thread has pickled meanwhile (None for none).

    Calls nest; an ObjectID's __reduce__ adds itself to the innermost one, once.
    """

class Block:
    """Heap memory that nothing refers to yet; freed if dropped, or if its process dies."""

    nbytes: int
    def __buffer__(self, flags: int) -> memoryview:
        """Its memory, to be written to; while there is such a buffer the Block can't be sealed, and `leave` waits."""
    def write(self, offset: int, data: object) -> None:
        """Copies a C-contiguous buffer in, the interpreter lock released for large ones."""

class View:
    """Read-only bytes of a stored object (buffer protocol), which stays in place as long as it lives."""

    nbytes: int
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int) -> memoryview: ...

Data: TypeAlias = bytes | bytearray | memoryview | Block
# one result: data, format, ids contained (counted before the value becomes visible)
Sealed: TypeAlias = tuple[Data, int, list[ObjectID] | None]
# kind, function's key, arguments, dependencies in order (None for none), number of returns, and one
# number for the job and the resources: while it stays the same, so do they
Work: TypeAlias = tuple[int, int, bytes, list[ObjectID] | None, int, int]
# an id, 20 bytes, and the number of the peer that owns it (0: this node)
IdRef: TypeAlias = tuple[bytes, int]
# task id (16 bytes), job, function, arguments, dependencies, ids only kept alive, number of returns, cpu, gpu, custom,
# attempt, retries left; of a call its actor, then instead of retries the number of its method, and the call of the same
# caller that it comes after, if that may be unfinished; of the creation of an actor its checkpoint_interval; of a call,
# whether the peer may know its results already; of an actor that has been elsewhere, its checkpoint, and what turn that
# covers
SentTask: TypeAlias = tuple[
    bytes, int, IdRef | None, bytes | Block, list[IdRef], list[IdRef], int, int, int, int, int, int, IdRef | None,
    bytes | None, int | None, bool, IdRef | None, int
]
# (NEWS_DONE, peer, id, format, data or None, size, nested, failed, turn): a result of a task of that peer's. Data up to
#     64 KiB; nested are lent to the peer; failed: with a failure that belongs into the journal there; turn: of a call to
#     an actor with checkpoints, which of its turns that was, else 0
# (NEWS_WANTED, id): somebody waits for its value here, which its owner has, or the peer where it is located
# (NEWS_GONE, id, owner, [(peer, times)], located): nothing refers to it here any more; those peers had lent it
# (NEWS_SEALED, id): of `subscribe`
# (NEWS_QUEUED,): since the last look a task became ready that may be sent and that nobody takes here at once
# (NEWS_CALLS, actor, peer, ends): there are calls to an actor that this peer serves; ends: before them, the actor that
#     the peer knows by this id shall end
# (NEWS_CHECKPOINT, value, peer, actor, turn, is_last): of the actor that the peer knows by this id, and this node serves;
#     it covers all turns up to this one, and the results of these were news before; is_last: the actor has left
News: TypeAlias = (
    tuple[int, int, bytes, int, bytes | None, int, list[IdRef], bool, int]
    | tuple[int, ObjectID, int, bytes, int, bool]
    | tuple[int, ObjectID]
    | tuple[int, ObjectID, int, bytes | None]
    | tuple[int, bytes, int, list[tuple[int, int]], int]
    | tuple[int]
)

class Arena:
    """One node's shared memory, as this process maps it.  Any thread may call any method.

    A method that must wait sleeps with the interpreter lock released, and is interrupted by
    signals at once.  Times are in milliseconds; -1 waits for ever.
    """

    # --- life ---
    @staticmethod
    def create(
        heap_bytes: int,
        resources: Sequence[int],  # [cpu, gpu, custom] in 1/10,000
        directory: str | None = None,  # None: a memfd
        huge_pages: bool = False,
        max_workers: int = 1024,
        any_user: bool = False,  # who is given the descriptor may attach; else processes of this user only
    ) -> Arena: ...
    @staticmethod
    def attach(fd: int) -> Arena: ...
    def register(self, kind: int, root_id: bytes | None = None) -> None:
        """Joins as a process of this kind (again after a fork: the child starts with nothing held).

        root_id, 20 bytes, is a driver's own task id, from which its ids are derived. Others may do without: then
        theirs are unique on this machine, since the last boot."""
    def leave(self) -> None:
        """Gives everything back except memory that Views still use; later calls raise ArenaClosed."""
    def shut(self) -> None:
        """Ends the session for everyone: every waiting or later call raises ArenaClosed."""
    @property
    def fd(self) -> int: ...
    @property
    def is_shut(self) -> bool: ...
    def set_session(self, data: bytes) -> None: ...  # at most 16 KiB, for those who attach
    def session(self) -> bytes: ...
    @property
    def job(self) -> int: ...  # number of the driver that this process, or its running task, works for
    # Of `stats`, those that are looked at again and again.
    @property
    def journal_last(self) -> int: ...
    @property
    def ready_tasks(self) -> int: ...
    def make_current(self) -> None: ...  # where ObjectID(bytes) and unpickled ids resolve

    # --- objects ---
    def put(self, data: Data, fmt: int, nested: list[ObjectID] | None = None) -> ObjectID: ...
    def allocate(self, nbytes: int) -> Block: ...
    def reserve(self) -> ObjectID:
        """A pending object with no task, to be sealed later; dropped before that, it fails with OBJECT_LOST."""
    def seal(self, oid: ObjectID, data: Data, fmt: int, nested: list[ObjectID] | None = None) -> bool:
        """False if it had a value already (the first one stays)."""
    def get(self, oid: ObjectID, timeout_ms: int = -1) -> tuple[int, bytes | View]:
        """Format and data; small data is copied, larger is a View.  Follows FORMAT_ALIAS.

        Raises WaitTimeout, StaleHandle."""
    def get_many(self, oids: list[ObjectID], timeout_ms: int = -1) -> list[tuple[int, bytes | View]]:
        """All of them, or those up to and including the first failure in the list's order."""
    def wait(
        self, oids: list[ObjectID], num_returns: int, timeout_ms: int = -1
    ) -> tuple[list[ObjectID], list[ObjectID]]:
        """At most num_returns ready ids, and the others, both in input order.

        Raises TypeError for what is no ObjectID, ValueError for an id given twice."""
    def is_ready(self, oid: ObjectID) -> bool: ...
    def described(self, oid: ObjectID) -> tuple[int, int] | None:
        """Format and size of the value that `get` gives, None without one. It stays where it is, in the spill file
        as well."""
    def set_spill_file(self, fd: int, capacity_bytes: int) -> None:
        """A file of no name, kept open by this process, to which values go that nobody uses.

        Of the file that the arena has already, this process keeps its own descriptor; a second one is not
        used."""
    def spill(self, nbytes: int) -> int: ...  # makes so much room in the heap if it can; returns the bytes
    def trim_spill_file(self, limit_bytes: int = 1 << 30) -> int:
        """Gives free places of 1 MiB and more back to the disk, until it is about so much; returns the bytes."""
    def wait_room(self, timeout_ms: int) -> None: ...  # until heap memory was freed, or the time is over

    # --- tasks ---
    def shape(self, cpu: int, gpu: int, custom: int) -> int: ...  # this process's number for so much, in 1/10,000
    def submit(
        self,
        function: ObjectID,
        payload: bytes | Block,
        deps: list[ObjectID] | None,
        nested: list[ObjectID] | None,
        num_returns: int,
        shape: int,
        max_retries: int,
    ) -> ObjectID | list[ObjectID] | None:
        """One id for num_returns 1, a list for more, None for 0.

        deps are waited for, and handed to the worker in order; nested are only kept alive."""
    def next(self, data: bytes | None = None, fmt: int = 0) -> Work | None:
        """Worker: seals data as the running task's only result (None: nothing is running, or
        finish/fail was called), and takes the next task in the same transaction.  Waits for
        one.  None: this process shall end.  What a signal handler raises comes out of it during the wait,
        when the result has been taken: call it again without one."""
    def complete(self) -> None: ...  # the running task is done, its results sealed; takes no other
    def set_helper(self, helper: Callable[[Work], None] | None) -> None:
        """At the limit of workers, a wait inside a task calls this with a task that it waits for; the
        helper runs it, seals its results and calls `complete`.  It must not raise before that."""
    def finish(self, results: list[Sealed]) -> None: ...  # one for each return id
    def fail(self, data: bytes, fmt: int, nested: list[ObjectID] | None = None, journal: bool = True) -> None:
        """Seals every return id of the running task with this failure (the first holds the
        data, the others alias it) and enters it in the journal."""
    def task_id(self) -> bytes: ...  # of the running task, or of the driver (thread)
    def attempt(self) -> int: ...
    def gpu_ids(self) -> list[int]: ...
    def running_shape(self) -> tuple[int, int, int]: ...
    def function(self, key: int) -> ObjectID: ...  # the running task's function by its key
    def returns(self) -> list[ObjectID]: ...  # of the running task

    # --- actors: an actor is an object; its last reference gone ends it, after its queued calls ---
    def create_actor(
        self,
        cls: ObjectID,
        payload: bytes | Block,
        deps: list[ObjectID] | None,
        nested: list[ObjectID] | None,
        shape: int,  # cpu while a method runs; gpu and custom for life
        checkpoint_interval: int,  # 0: dies with its process
    ) -> ObjectID: ...
    def call(
        self,
        actor: ObjectID,
        payload: bytes | Block,
        deps: list[ObjectID] | None,
        nested: list[ObjectID] | None,
        num_returns: int,
        method: int = 0,
    ) -> ObjectID | list[ObjectID] | None:
        """method: a number that `events` repeats."""
    def actor_failed(self, data: bytes, fmt: int) -> None:
        """Worker: the constructor failed; this is what every call, queued or later, returns."""
    def checkpoint(
        self, data: Data, fmt: int, nested: list[ObjectID] | None = None, leaves: bool = False
    ) -> None:
        """Worker: the state after the calls finished so far; these need not run again. `leaves`: an actor that this node
        serves for another ends here, and goes on elsewhere from that state."""
    def last_checkpoint(self) -> ObjectID | None: ...
    def kill_actor(self, actor: ObjectID) -> int: ...  # the process to kill, or 0; no restart follows

    # --- processes and workers ---
    def bury(self, pid: int, status: int) -> bool:
        """What the dead process held is given back, its task run again or failed.
        status as from os.waitstatus_to_exitcode.  False if the arena does not know it."""
    def processes(self) -> list[tuple[int, int, int, int, int]]:
        """pid, start time (/proc/PID/stat field 22), kind, running task's key (0: none), since when (monotonic ns)."""
    def demand(self) -> tuple[int, int, int, int]:
        """(tasks ready that fit the free resources, idle workers, workers, limit of workers)."""
    def wait_demand(self, timeout_ms: int) -> None: ...  # until demand may have changed, or a nudge
    def nudge(self) -> None: ...  # ends waits for demand, journal and news; takes no lock: for signal handlers
    def retire(self, count: int) -> int: ...  # asks this many idle workers to end
    def running(self) -> list[tuple[int, int, int, int, bytes, int, int, bool, int]]:
        """Each worker: pid, start time, kind of task (0: idle; an actor between two calls has ACTOR_CALL), a key
        that names what it does now, id of the function or the actor's class, job, since when (monotonic ns, 0
        if nothing runs), whether it may run again, how often it was stopped (an actor: died) before."""
    def stop(self, pid: int, key: int, pidfd: int, report: ObjectID | None, again: bool) -> bool:
        """Kills this worker, if it still does what the key names; else False.  When it is buried, what may run
        again does if `again` is set, after `resume`; all else fails with the report, an object of a failure's
        format."""
    def stop_with_job(self, pid: int, key: int, pidfd: int) -> bool:
        """The same for what `end_jobs` has found: a task of another job that waits on the same stack runs again as
        often as it may."""
    def end_jobs(self) -> tuple[int, list[tuple[int, int, int, int, bytes, int, int, bool, int]]]:
        """Fails the tasks of ended drivers that have not begun; how many those were, and what of theirs still runs,
        as `running` has it, for the caller to stop. Nothing is left when neither was there."""
    @property
    def resting(self) -> int: ...  # tasks that were stopped and wait for `resume`; takes no lock
    def resume(self) -> bool: ...  # the one that has rested longest may run; False: none rests
    def lock_holder(self, timeout_ms: int) -> int: ...  # pid holding the mutex for that long, else 0

    # --- journal: what happened, in order, bounded; whoever follows it keeps its own place ---
    def journal(self, kind: int, data: bytes, job: int = 0, fmt: int = 2) -> int:
        """Job 0 is the one that this process works for; format 2, plain bytes, is what a process has to say
        itself."""
    def journal_read(self, after: int, timeout_ms: int = 0) -> tuple[int, list[tuple[int, int, int, int, bytes]]]:
        """New place, and entries (sequence, kind, job, format, data) after the given one."""

    # --- other nodes; for the node manager only, one thread of it. What is told to a peer by one of these calls
    #     and then lost with the connection, or with this process, is put right by Sync (below) ---
    def enter_peer(self, node_id: bytes) -> int: ...  # number of the peer; the same again while it is known
    def peers(self) -> list[tuple[int, bytes]]: ...  # number and node id; also of those whose burial was cut short
    def bury_peer(self, peer: int) -> None:
        """That node is dead: tasks that were away there run again or fail with NODE_DIED, what it owned and has not
        given fails with OBJECT_LOST, the rest of it becomes this node's own; loans end, its drivers too.

        Raises StaleHandle for a number that is no peer's, as do all calls that take one."""
    def enter_guest(self, home: int, root_id: bytes) -> int: ...  # job here of a driver of that peer; the same again
    def bury_guest(self, job: int) -> None: ...  # its driver has ended: `end_jobs` sees to its tasks
    def guests(self) -> list[tuple[int, int, bytes]]: ...  # job, home, root id
    def job_root(self, job: int) -> tuple[int, bytes] | None: ...  # home (0: here) and root id of a living job
    def foreign(self, ref: IdRef) -> ObjectID:
        """The object as it is known here, or made: another node's is pending, this node's own has failed
        (OBJECT_LOST)."""
    def owner(self, oid: ObjectID) -> int: ...  # peer, 0: this node
    def lend(self, peer: int, oids: list[ObjectID]) -> None: ...  # once more each, but for what the peer owns
    def lend_nested(self, peer: int, oid: ObjectID) -> list[IdRef]: ...  # the ids in the value that `get` gives
    def take_back(self, peer: int, returned: list[tuple[bytes, int]]) -> None: ...  # ids not lent are passed over
    def note(self, peer: int, refs: list[IdRef]) -> None:
        """That peer has sent these, once more each. What nothing here refers to is at once NEWS_GONE."""
    def notes(self, peer: int) -> list[tuple[bytes, int]]: ...
    def forget_notes(self, peer: int, ids: list[bytes]) -> list[tuple[bytes, int]]:
        """What is to be returned to that peer now, since the ids' owner has lent them itself."""
    def loans(self, peer: int) -> list[tuple[bytes, int]]: ...
    def match_loans(self, peer: int, noted: list[tuple[bytes, int]]) -> None:
        """Sync: loans become what the peer says it has noted; results for their owner are left as they are."""
    def queues(self) -> list[tuple[int, int, int, int, int, bool]]:
        """Shape, cpu, gpu, custom, ready tasks that may be sent, and whether this node could ever run them."""
    def waiting_jobs(self, shape: int, place: tuple[int, int]) -> tuple[list[int], tuple[int, int]]:
        """Jobs of ready tasks of this shape, of which a bounded number is looked at, and where the next call goes on;
        (0, 0): at the first of them."""
    def send_tasks(self, peer: int, shape: int, count: int) -> list[SentTask]:
        """Ready tasks of this shape, the oldest first, go to the peer, with all their ids lent to it."""
    def followers(self, oid: ObjectID) -> list[tuple[int, int, int, int, int, bool]]:
        """As `queues`, of tasks that wait for this value and nothing else, of which a bounded number is looked at.
        None while a thread waits for it: then it comes in any case."""
    def send_followers(self, peer: int, oid: ObjectID, shape: int, count: int) -> list[SentTask]:
        """Of these, if the value is at the peer, the oldest go there. When nothing waits for it any more, it is no
        longer wanted: whoever waits for it next is news."""
    def send_calls(self, peer: int, actor: ObjectID, count: int) -> list[SentTask]:
        """Calls to an actor that this peer serves, in order for each caller; if there are more, that is news."""
    def heard_of_end(self, peer: int, actor_id: bytes) -> None: ...  # the peer has ended it, as it was told
    def away(self, peer: int) -> list[bytes]: ...  # task ids; also those kept for results that are stored there
    def recall(self, peer: int, task_ids: list[bytes]) -> int:
        """Those that are away there go back to their queue, as if they had never been sent; returns how many."""
    def receive_tasks(self, peer: int, tasks: list[SentTask]) -> None:
        """The job is this arena's number, the ids' owners are its numbers. A task that is here is passed over, and a call
        to an actor that is not here any more."""
    def received(self, peer: int) -> list[bytes]: ...  # its task ids that are not done, or have results here for it
    def drop_received(self, peer: int, task_ids: list[bytes]) -> list[bytes]:
        """Those that have not begun are gone; returns their ids."""
    def finish_return(
        self,
        peer: int,
        object_id: bytes,
        fmt: int,
        data: Data | None,  # None: it is stored at that peer
        size: int,
        nested: list[IdRef],  # noted from that peer
        failed: bool = False,  # is entered in the journal
        turn: int = 0,  # of a call's result, which of its actor's turns that was
    ) -> bool:
        """False: it had its value, or nothing here refers to it. The caller returns the id to the peer unless it is
        stored there."""
    def take_checkpoint(self, peer: int, actor: ObjectID, turn: int, value: ObjectID) -> bool:
        """An actor that the peer serves can go on from this value, without the calls up to that turn: if that node dies,
        it starts from there, and the calls since run again. The value is this node's own from now on; what the peer has lent
        of it is to be returned. False: it is of no use, or older than what is here."""
    def reclaim_actor(self, peer: int, actor: ObjectID) -> bool:
        """It has left that peer: it is placed anew, with the calls that were not executed there. False: it was not
        there."""
    def served_actors(self) -> list[ObjectID]: ...  # those with checkpoints that this node serves for others
    def location(self, oid: ObjectID) -> tuple[int, int, int] | None: ...  # peer, size and format of a stored one
    def news(self, max_items: int, timeout_ms: int) -> list[News]: ...  # waits for some; `nudge` ends the wait
    def listen(self, fd: int | None) -> None:
        """A thread of the kernel's rings this eventfd, of the caller's, when there is news; None ends it."""
    def arm(self, hears_queue: bool = True) -> None:
        """It rings once more: now, or when there is news, or the arena is shut.

        That tasks wait for workers counts unless `hears_queue` is false.
        """
    def has_news(self, hears_queue: bool) -> bool: ...  # what an armed bell would ring for
    def hear(self, fd: int | None) -> None: ...  # from now on it may `sleep` for that one, an epoll's; None: no more
    def give_way(self) -> bool: ...  # so that whoever was just given what it waited for may run; False: nobody could
    def sleep(self, timeout_ms: int, hears_queue: bool) -> tuple[bool, bool]:
        """Blocks until there is news, or the arena is shut, or the descriptor can be read: which of the two. Neither:
        a signal has come, or the end of the time, or nothing for a while (-1: there is no other end).
        """
    def renew_news(self, peer: int) -> None:
        """Sync: results that the peer has not returned, and what is awaited of it, are news again."""
    def drivers(self) -> list[tuple[int, bytes]]: ...  # of this node: job and root id
    def subscribe(self, oid: ObjectID) -> bool:
        """Its value, or that it is known to be elsewhere, will be news. False: that is so already."""
    def is_wanted(self, oid: ObjectID) -> bool: ...  # it was NEWS_WANTED, and has not come
    def is_watched(self, oid: ObjectID) -> bool: ...  # a thread waits for its value, and not tasks alone
    def resources(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]: ...  # [cpu, gpu, custom]: total, free

    # --- looking ---
    def stats(self) -> dict[str, int]: ...
    def check(self) -> list[str]: ...  # every invariant; [] when the arena is whole
    def events(self) -> list[tuple[int, int, int, int, bytes, int, int]]:
        """Finished tasks, a bounded number a worker: pid, kind, start and end (monotonic ns), task id, function's key,
        of an actor's call its method."""

def keep_freed_memory(nbytes: int) -> None: ...  # this process's C heap keeps so much for its next allocations
def current() -> Arena | None: ...
