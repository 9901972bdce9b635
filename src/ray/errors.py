"""Every error that the package raises by itself, under one root.

Each says what happened, where, and what to do next; what it knows stands in typed attributes; and
each survives pickling with them, whatever its constructor looks like.
"""

import dataclasses
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Self


class RayError(Exception):
    """The root of all errors of this package."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # By state, not by constructor: an error is rebuilt without running any __init__.
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[RayError], args: tuple[Any, ...], state: dict[str, Any]) -> RayError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


# --- how the API was used -------------------------------------------------------------------------


class ArgumentError(RayError, ValueError):
    """An argument, or a combination of arguments, that makes no sense."""


class ArgumentTypeError(RayError, TypeError):
    """An argument of the wrong type, or a call that does not fit the signature."""


class InitError(ArgumentError):
    """`ray.init` was called a second time, or with arguments that rule each other out."""


class InfeasibleResourcesError(ArgumentError):
    """A demand for resources that this node can never meet.

    `asked` and `available` map resource names to amounts; `available` is the node's whole stock.
    """

    def __init__(self, name: str, asked: Mapping[str, float], available: Mapping[str, float]) -> None:
        self.name = name
        self.asked = dict(asked)
        self.available = dict(available)
        super().__init__(
            f"{name!r} asks for {_amounts(self.asked)}, but this node has {_amounts(self.available)} in "
            "all, so "
            f"it could never run. Lower the demand in @ray.remote(...), or declare more in ray.init(...)."
        )


class ForkedProcessError(RayError, RuntimeError):
    """The API was called in a process forked from one that had called `ray.init`."""

    def __init__(self, what: str = "The call") -> None:
        super().__init__(
            f"{what} was made in a process that os.fork (or multiprocessing) copied from a connected one. "
            "The parent is not harmed. In the child call ray.init(redis_address=...) with the address that "
            "the "
            "parent's ray.init returned, or start it with the 'spawn' method."
        )


# --- the session ----------------------------------------------------------------------------------


class RayConnectionError(RayError, ConnectionError):
    """There is no session to talk to. `address` is where one was looked for, if anywhere."""

    def __init__(self, message: str, address: str | None = None) -> None:
        self.address = address
        super().__init__(message)

    @classmethod
    def not_started(cls, what: str) -> Self:
        """For a call made before `ray.init`; `what` names the call."""
        return cls(f"{what} cannot be used before Ray has been started. Call ray.init() first.")

    @classmethod
    def nobody_listens(cls, address: str, reason: str = "") -> Self:
        """For an address that does not answer."""
        because = f" ({reason})" if reason else ""
        return cls(
            f"No Ray session of this user answers at {address!r}{because}. Take the address from "
            "what `ray start --head` printed, from `ray status` on the machine where the session began, or "
            "from the 'redis_address' that ray.init() returned in the process that started it, and check "
            "that it still runs.",
            address,
        )

    @classmethod
    def incompatible(cls, address: str, theirs: str, ours: str) -> Self:
        """For a session of a release that this one does not understand."""
        return cls(
            f"The session at {address!r} was started by raycore {theirs or '(an early release)'}; this is "
            f"raycore {ours}, and the two do not understand each other. Use one release in both processes.",
            address,
        )

    @classmethod
    def other_python(cls, address: str, theirs: str, ours: str) -> Self:
        """For a session whose workers run another Python: functions travel as byte code, which no other
        reads."""
        return cls(
            f"The session at {address!r} runs Python {theirs}; this is Python {ours}, and functions of the "
            "one can't run in the other. Use one version of Python in both.",
            address,
        )

    @classmethod
    def token_needed(cls, address: str, owner: int, user: int, shown: str | None, place: str) -> Self:
        """For a cluster of the user `owner`, who has another token than `user` has shown, from that file if
        from any. `place` is where it could lie."""
        problem = "and shows none" if shown is None else f"and the one in {shown} is of another cluster"
        return cls(
            f"The cluster at {address!r} was started by the user with id {owner}. This process runs as "
            f"{user}, so it must show the cluster's token, {problem}. The token is a line in a file that "
            "`ray start` has named, and that `ray status` names to whoever started the cluster. Keep a copy "
            f"with mode 0600 at {place}, or anywhere with RAY_TOKEN_FILE naming it.",
            address,
        )


class RaySystemError(RayError, RuntimeError):
    """A part of the session itself failed: a process did not start, or answered nonsense."""


class SystemLimitError(RaySystemError):
    """The system refused what the session needs.

    `limit` names what was reached, and where it is set; `reason` is what the system said.
    """

    def __init__(self, what: str, limit: str, reason: str) -> None:
        self.limit = limit
        self.reason = reason
        super().__init__(f"{what}: {reason}. The limit is: {limit}. Raise it, or use less of it.")


class SessionEndedError(RayError, RuntimeError):
    """The session ended while, or before, the call was made."""

    def __init__(self, message: str = "") -> None:
        super().__init__(
            message
            or "The Ray session has ended: ray.shutdown() or `ray stop` was called, the script that started "
            "it is gone, or its keeper process died. Call ray.init() to start, or join, another."
        )


class ArenaCorruptError(RayError, RuntimeError):
    """The shared memory of this node failed a check of its own, and was closed.

    `finding` says which check.
    """

    def __init__(self, finding: str) -> None:
        self.finding = finding
        super().__init__(
            f"The shared memory of this node is damaged: {finding}. It was closed, so that nobody reads "
            "wrong data "
            "from it. End the session and start a new one. A native library that writes out of bounds in a "
            "task is "
            "the usual cause; otherwise please report this message."
        )


# --- between machines -----------------------------------------------------------------------------


class ClusterTokenError(RayError):
    """The token of a cluster can't be read, written or used.

    `path` is the file, or says where the text came from; `reason` what is wrong with it.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(
            f"No cluster token from {path}: {reason}. The token is what `ray start --head` wrote on the "
            "head's machine (it prints the file's path). Copy that file here with mode 0600, for example "
            "with scp -p, to ~/.config/ray/token, or anywhere with RAY_TOKEN_FILE naming it."
        )


class PeerUnreachableError(RayConnectionError):
    """No connection to a node came about. `address` is where it was tried, `reason` what happened; `refused`:
    the machine there has answered that nobody listens."""

    def __init__(self, address: str, reason: str, refused: bool = False) -> None:
        super().__init__(
            f"No connection to the node at {address!r}: {reason}. Check that the address and port are those "
            "that `ray start` printed there, that the node still runs (`ray status`), and that no firewall "
            "is between.",
            address,
        )
        self.reason = reason
        self.refused = refused


class WrongTokenError(RayConnectionError):
    """The node at `address` belongs to a cluster with another token."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"The node at {address!r} does not belong to the cluster of this token: one of the two is not of "
            "this cluster, or the cluster was started anew since. Copy the token file again from the machine "
            "where `ray start --head` was run (mode 0600; RAY_TOKEN_FILE names it), and check the address.",
            address,
        )


class IncompatiblePeerError(RayConnectionError):
    """The node at `address` speaks another version of the protocol.

    `ours` and `theirs` are the two releases, `our_protocol` and `their_protocol` the two versions.
    """

    def __init__(self, address: str, ours: str, our_protocol: int, theirs: str, their_protocol: int) -> None:
        super().__init__(
            f"The node at {address!r} runs raycore {theirs} (protocol {their_protocol}); this is raycore "
            f"{ours} (protocol {our_protocol}), and the two do not understand each other. Install one "
            "release on both machines.",
            address,
        )
        self.ours = ours
        self.our_protocol = our_protocol
        self.theirs = theirs
        self.their_protocol = their_protocol


# --- objects --------------------------------------------------------------------------------------


class GetTimeoutError(RayError, TimeoutError):
    """The time given to `ray.get` ran out.

    `timeout_ms` is that time, `missing` how many ids were not ready.
    """

    def __init__(self, timeout_ms: int, missing: int = 1) -> None:
        self.timeout_ms = timeout_ms
        self.missing = missing
        super().__init__(
            f"ray.get waited {timeout_ms} ms and {missing} object{'s were' if missing > 1 else ' was'} "
            "still not ready. "
            "The tasks go on; call ray.get again, or use ray.wait to take what is ready."
        )


class ObjectLostError(RayError, LookupError):
    """The object behind an id is gone. `object_id` is its id in hexadecimal; `node` is where it was, if it
    was lost with a node of the cluster."""

    def __init__(self, object_id: str, node: str = "") -> None:
        self.object_id = object_id
        self.node = node
        if node:
            message = (
                f"The object {object_id} is lost: it belonged to node {node}, which has died or is cut off, "
                "and no node that was asked has a copy. What ray.put stores is not made again; the result of "
                "a task is, as long as the node that has called it lives. Put it again, or have a task make "
                "it."
            )
        else:
            message = (
                f"The object {object_id} is gone: its last reference was dropped, or it belongs to another "
                "session, or its node was lost. An id rebuilt from bytes or hex does not keep its object "
                "alive; keep the ObjectID itself."
            )
        super().__init__(message)


class ObjectStoreFullError(RayError):
    """There was no room in the object store, also after waiting. All figures are in bytes."""

    def __init__(self, wanted_bytes: int, capacity_bytes: int, used_bytes: int, waited_ms: int = 0) -> None:
        self.wanted_bytes = wanted_bytes
        self.capacity_bytes = capacity_bytes
        self.used_bytes = used_bytes
        self.waited_ms = waited_ms
        advice = (
            "It is larger than the whole store: give ray.init a larger object_store_memory"
            if wanted_bytes > capacity_bytes
            else "Drop ids and arrays that are no longer needed, or give ray.init a larger "
            "object_store_memory"
        )
        super().__init__(
            f"No room for an object of {_bytes(wanted_bytes)} in the object store: {_bytes(used_bytes)} of "
            f"{_bytes(capacity_bytes)} are used, and nothing was freed in {waited_ms} ms. {advice}."
        )


class SpillError(RayError):
    """The store is full, and its values could not be moved to disk. `folder` holds the spill file."""

    def __init__(self, folder: str, reason: str) -> None:
        self.folder = folder
        self.reason = reason
        super().__init__(
            f"The object store is full, and its values can't be moved to the spill file in {folder}: "
            f"{reason}. Make room there, or start the session with TMPDIR set to a folder on a larger disk. "
            "Nothing was lost, and the same call may be made again."
        )


class TableFullError(RayError):
    """A table of the node has no free entry. `table` names it, `capacity` is its size in entries."""

    def __init__(self, table: str, capacity: int) -> None:
        self.table = table
        self.capacity = capacity
        super().__init__(
            f"All {capacity} entries of this node's table of {table} are in use. Get results and drop their "
            "ids "
            "before making more; inside a task, submit in smaller batches."
        )


class WorkerLimitError(RayError):
    """All workers of the node wait for tasks that only one more worker could run. `limit` is their number."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(
            f"All {limit} workers of this node wait for tasks that need a worker, and nothing moves: "
            "tasks wait for tasks without end, or deeper than the setting worker_limit allows for. Bound the "
            "recursion, or start the session with ray.init(config={'worker_limit': ...}). The deepest of the "
            "waiting tasks get this error."
        )


class SerializationError(RayError):
    """A value, function or failure that could not be pickled or unpickled.

    `operation` is "pickle" or "unpickle"; `subject` what it was about; `type_name` the type at fault;
    `path` where in the value that was found ("" for the value itself); `reason` what Python said.
    """

    def __init__(
        self, operation: str, subject: str, type_name: str = "", path: str = "", reason: str = ""
    ) -> None:
        self.operation = operation
        self.subject = subject
        self.type_name = type_name
        self.path = path
        self.reason = reason
        where = f" at {path}" if path else ""
        culprit = f": the cause is an object of type {type_name!r}{where}" if type_name else ""
        advice = (
            "Leave that part out, make it inside the task, or give its class __reduce__ or __getstate__."
            if operation == "pickle"
            else "The process that reads it must be able to import the same modules, in the same versions."
        )
        super().__init__(f"Could not {operation} {subject}{culprit} ({reason}). {advice}")


# --- tasks and actors -----------------------------------------------------------------------------


_ARGS = vars(BaseException)["args"]


class RayTaskError(RayError):
    """A task, or a method of an actor, raised; `ray.get` raises this in its place.

    Where the original exception's type allows it, the error raised is of that type as well, so that
    `except ZeroDivisionError` works; see `ray.serialization.dual`.

    `function_name`, `pid`, `node` and `attempt` say what ran where; `exception_type` is the original
    type's qualified name; `traceback_text` the traceback on the worker, cut to what the user wrote;
    `cause` the original exception, None if it could not travel; `chain` the dependent tasks, nearest
    to the origin first, that could not run because of it.
    """

    function_name: str
    traceback_text: str
    exception_type: str
    pid: int
    node: str
    attempt: int
    cause: BaseException | None
    chain: tuple[str, ...]

    def __init__(
        self,
        function_name: str,
        traceback_text: str = "",
        exception_type: str = "Exception",
        pid: int = 0,
        node: str = "",
        attempt: int = 0,
        cause: BaseException | None = None,
        chain: Sequence[str] = (),
    ) -> None:
        # Into the dictionary, since a subclass may also have a user's __setattr__.
        self.__dict__.update(
            function_name=function_name,
            traceback_text=traceback_text,
            exception_type=exception_type,
            pid=pid,
            node=node,
            attempt=attempt,
            cause=cause,
            chain=tuple(chain),
        )
        # Not `cause.args`: its class may have made a method of that, which raises.
        self.args = (function_name, exception_type) if cause is None else _ARGS.__get__(cause)

    def __str__(self) -> str:
        own = self.__dict__
        place = f" in process {own['pid']}" if own["pid"] else ""
        place += f" on {own['node']}" if own["node"] else ""
        again = f" (attempt {own['attempt'] + 1})" if own["attempt"] else ""
        hops = "".join(f"{hop}\n" for hop in own["chain"])
        return f"{own['function_name']!r} failed{place}{again}.\n{hops}{own['traceback_text']}".rstrip()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(function_name={self.__dict__['function_name']!r})"


class WrongReturnCountError(RayError, ValueError):
    """A function with `num_return_vals` above 1 returned something else than that many values."""

    def __init__(self, function_name: str, expected: int, got: int | None, type_name: str) -> None:
        self.function_name = function_name
        self.expected = expected
        self.got = got
        self.type_name = type_name
        found = f"a value of type {type_name!r}" + ("" if got is None else f" with {got} items")
        super().__init__(
            f"{function_name!r} is declared with num_return_vals={expected}, but returned {found}. Return a "
            "tuple or "
            f"list of exactly {expected} values, or change num_return_vals."
        )


class WorkerCrashedError(RayError):
    """The process that ran a task died before the task was finished.

    `status` is the exit status, negative for a signal's number; `attempts` counts all runs; `node` says
    where, when that was on another node of the cluster.
    """

    def __init__(
        self, function_name: str, status: int, pid: int = 0, attempts: int = 1, node: str = ""
    ) -> None:
        self.function_name = function_name
        self.status = status
        self.pid = pid
        self.attempts = attempts
        self.node = node
        times = f" (tried {attempts} times)" if attempts > 1 else ""
        super().__init__(
            f"{_name(function_name, 'A task')} did not finish: its worker process {pid}{_on(node)} "
            f"{_ending(status)}{times}. "
            f"{_advice(status)}"
        )


class ActorDiedError(RayError):
    """An actor is gone, so this call, and every later one, has no result.

    `status` is the exit status of its process, negative for a signal's number; `node` says where that
    was, when it was another node of the cluster.
    """

    def __init__(self, function_name: str, status: int = 0, pid: int = 0, node: str = "") -> None:
        self.function_name = function_name
        self.status = status
        self.pid = pid
        self.node = node
        super().__init__(
            f"{_name(function_name, 'A call of an actor')} has no result: the actor's process "
            f"{pid}{_on(node)} {_ending(status)}. "
            f"{_advice(status)} Make a new actor; with checkpoint_interval one restarts by itself."
        )


class ActorNodeDiedError(ActorDiedError):
    """The node of a cluster that an actor was on has died, or is cut off."""

    def __init__(self, function_name: str) -> None:
        RayError.__init__(
            self,
            f"{_name(function_name, 'A call of an actor')} has no result: the node that the actor was on has "
            "died, or is cut off. Make a new actor to go on.",
        )
        self.function_name = function_name
        self.status = 0
        self.pid = 0
        self.node = ""


class ActorKilledError(ActorDiedError):
    """An actor was ended with `ray.kill`."""

    def __init__(self, function_name: str, pid: int = 0) -> None:
        RayError.__init__(
            self,
            f"{_name(function_name, 'A call of an actor')} has no result: the actor was ended with ray.kill. "
            "Make a new actor to go on.",
        )
        self.function_name = function_name
        self.status = -signal.SIGKILL
        self.pid = pid
        self.node = ""


class NodeDiedError(RayError):
    """The node of a cluster that ran a task died before the task was finished. `attempts` counts all runs."""

    def __init__(self, function_name: str, attempts: int = 1) -> None:
        self.function_name = function_name
        self.attempts = attempts
        times = f" (tried {attempts} times)" if attempts > 1 else ""
        super().__init__(
            f"{_name(function_name, 'A task')} did not finish: the node that ran it has died, or is cut "
            f"off{times}. It may be run again elsewhere with max_retries above {attempts - 1}."
        )


class JobEndedError(RayError):
    """The driver that had started a task or an actor has ended, and what it had started with it."""

    def __init__(self, function_name: str) -> None:
        self.function_name = function_name
        super().__init__(
            f"{_name(function_name, 'A task')} has no result: the driver that had started it has ended, "
            "and with it its tasks and actors. Whoever shares results with other drivers must outlive them."
        )


@dataclasses.dataclass(frozen=True, slots=True)
class MemoryShortage:
    """Why a process was stopped: how much, of what, by whom. All figures are in bytes."""

    what: str  # whose limit it is: "this machine", "the cgroup at ..."
    used_bytes: int
    limit_bytes: int
    act_bytes: int  # from so much use on, processes are stopped
    held_bytes: int  # by the process that was stopped, and by those it had started
    others: tuple[tuple[str, int], ...]  # the next largest holders, and what they hold
    stops: int  # how often it was stopped, this time included
    setting: str  # of ray.init's `config`: which one moves the limit

    def __str__(self) -> str:
        others = ", ".join(f"{name} {_bytes(held)}" for name, held in self.others)
        times = f", {self.stops} times so far" if self.stops > 1 else ""
        return (
            f"was stopped{times}, because memory ran out: {self.what} has {_bytes(self.used_bytes)} of "
            f"{_bytes(self.limit_bytes)} in use, and from {_bytes(self.act_bytes)} on somebody is stopped "
            f"({self.setting}). It held {_bytes(self.held_bytes)}"
            f"{f'; other large ones: {others}' if others else ''}."
        )


_LESS_MEMORY = (
    "Let fewer run at once (a larger num_cpus in @ray.remote, a smaller one in ray.init), let each hold "
    "less, or allow more memory."
)


class OutOfMemoryError(WorkerCrashedError, MemoryError):
    """The process that ran a task was stopped, because memory ran out, and the task is not run again.

    `shortage` says how much, of what, by whom; it is None where that could not be kept.
    """

    def __new__(cls, *args: Any, **_: Any) -> Self:
        return BaseException.__new__(cls, *args)  # MemoryError's own makes nothing but a MemoryError

    def __init__(
        self, function_name: str, pid: int = 0, shortage: MemoryShortage | None = None, node: str = ""
    ) -> None:
        self.function_name = function_name
        self.status = -signal.SIGKILL
        self.pid = pid
        self.attempts = shortage.stops if shortage else 1
        self.shortage = shortage
        self.node = node
        RayError.__init__(
            self, _out_of_memory(function_name, "A task", "worker process", pid, node, shortage)
        )


class ActorOutOfMemoryError(ActorDiedError, MemoryError):
    """The process of an actor was stopped, because memory ran out.

    `shortage` says how much, of what, by whom; it is None where that could not be kept.
    """

    def __new__(cls, *args: Any, **_: Any) -> Self:
        return BaseException.__new__(cls, *args)  # as above

    def __init__(
        self, function_name: str, pid: int = 0, shortage: MemoryShortage | None = None, node: str = ""
    ) -> None:
        self.function_name = function_name
        self.status = -signal.SIGKILL
        self.pid = pid
        self.shortage = shortage
        self.node = node
        RayError.__init__(
            self, _out_of_memory(function_name, "An actor", "actor's process", pid, node, shortage)
        )


def _out_of_memory(
    function_name: str, otherwise: str, process: str, pid: int, node: str, shortage: MemoryShortage | None
) -> str:
    reason = shortage or "was stopped, because memory ran out."
    which = f"{process} {pid}{_on(node)}"
    return f"{_name(function_name, otherwise)} has no result: its {which} {reason} {_LESS_MEMORY}"


def _name(function_name: str, otherwise: str) -> str:
    return repr(function_name) if function_name else otherwise


def _on(node: str) -> str:
    return f" on node {node}" if node else ""


def _ending(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was killed by {name}"


def _advice(status: int) -> str:
    if status == -signal.SIGKILL:
        return "If nobody killed it, the machine probably ran out of memory."
    if status in (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT, -signal.SIGILL, -signal.SIGFPE):
        return "That comes from native code, or from recursion without end; see the worker's output above."
    return "Look for os._exit, sys.exit or a native library that ends the process." if status >= 0 else ""


def _amounts(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={amount:g}" for name, amount in resources.items()) or "nothing"


def _bytes(count: int) -> str:
    return f"{count:,} bytes" if count < 1 << 20 else f"{count / (1 << 20):,.1f} MiB"
