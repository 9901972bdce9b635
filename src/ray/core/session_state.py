"""The session that this process belongs to: at most one, found here by every call of the API."""

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from ray._kernel import Arena, Block, ObjectID
from ray.config import Config
from ray.core import interrupts
from ray.core.options import Demand
from ray.errors import ForkedProcessError, InitError, RayConnectionError

SCRIPT_MODE = 0  # a script or notebook; errors are printed
WORKER_MODE = 1  # a worker process of ours
PYTHON_MODE = 2  # no other process: calls run at once, in the caller
SILENT_MODE = 3  # as SCRIPT_MODE, printing nothing

MODE_NAMES = {
    SCRIPT_MODE: "SCRIPT_MODE",
    WORKER_MODE: "WORKER_MODE",
    PYTHON_MODE: "PYTHON_MODE",
    SILENT_MODE: "SILENT_MODE",
}

FEW_REMEMBERED = 64  # so many are never looked through for dead ones

Returns = ObjectID | list[ObjectID] | None


class Submitter(Protocol):
    """Who runs tasks and actors: the arena itself, or in PYTHON_MODE the caller's own process."""

    def shape(self, cpu: int, gpu: int, custom: int, /) -> int: ...

    def submit(
        self,
        function: ObjectID,
        payload: bytes | Block,
        deps: list[ObjectID] | None,
        nested: list[ObjectID] | None,
        num_returns: int,
        shape: int,
        max_retries: int,
        /,
    ) -> Returns: ...

    def create_actor(
        self,
        cls: ObjectID,
        payload: bytes | Block,
        deps: list[ObjectID] | None,
        nested: list[ObjectID] | None,
        shape: int,
        checkpoint_interval: int,
        /,
    ) -> ObjectID: ...

    def call(
        self,
        actor: ObjectID,
        payload: bytes | Block,
        deps: list[ObjectID] | None,
        nested: list[ObjectID] | None,
        num_returns: int,
        method: int,
        /,
    ) -> Returns: ...

    def kill_actor(self, actor: ObjectID, /) -> int: ...

    def gpu_ids(self) -> list[int]: ...


class Remembering(Protocol):
    """Keeps something of a session for the next call, and with it the session's memory."""

    def forget(self) -> None: ...


class Remembered:
    """Weak references to these.

    Not a WeakSet: its code runs whenever a member dies, and a KeyboardInterrupt that happens to come just
    there is printed and lost."""

    __slots__ = ("_members", "_prune_at")

    def __init__(self) -> None:
        self._members: list[weakref.ref[Remembering]] = []
        self._prune_at = FEW_REMEMBERED

    def add(self, member: Remembering) -> None:
        with _remembering:
            self._members.append(weakref.ref(member))
            if len(self._members) > self._prune_at:
                self._members = [each for each in self._members if each() is not None]
                self._prune_at = max(FEW_REMEMBERED, 2 * len(self._members))

    def forget(self) -> None:
        """All of them forget the session."""
        with _remembering:
            members, self._members = self._members, []
        for each in members:
            member = each()
            if member is not None:
                member.forget()


class Current:
    """One session as one process sees it; what `current` names from `enter` to `leave`."""

    __slots__ = (
        "arena",
        "at_end",
        "config",
        "in_cluster",
        "info",
        "mode",
        "node_name",
        "remembering",
        "stock",
        "submitter",
    )

    def __init__(
        self,
        arena: Arena,
        submitter: Submitter,
        mode: int,
        config: Config,
        stock: Demand,
        in_cluster: bool = False,
        node_name: str = "",
    ) -> None:
        self.arena = arena
        self.submitter = submitter
        self.mode = mode
        self.config = config
        self.stock = stock  # all that this node has, whether in use or not
        self.in_cluster = in_cluster  # with nodes that may have more, now or later
        self.node_name = node_name  # of a worker's node, in a cluster: its address
        self.info: dict[str, Any] = {}  # what ray.init returned
        self.remembering = Remembered()
        self.at_end: list[Callable[[], None]] = []  # what `leave` does, in this order


current: Current | None = None
_forked = False
_lock = threading.Lock()
_remembering = threading.RLock()  # a destructor may run anywhere, and call a function first used there


def enter(session: Current) -> None:
    """Makes this the process's session: ids resolve in its arena."""
    global current, _forked
    session.arena.make_current()
    current = session
    _forked = False


def leave() -> None:
    """Ends this process's part in the session, and the session if it was started here.

    Does nothing without a session, and in a task: a worker belongs to its session for life."""
    if current is None or current.mode == WORKER_MODE:
        return
    with interrupts.HeldBack():  # half an end would leave processes, and nobody to end them
        _leave()


def _leave() -> None:
    global current
    with _lock:
        session, current = current, None
    if session is None:
        return
    session.submitter = session.arena  # PYTHON_MODE's refers back to the session
    session.remembering.forget()
    with contextlib.ExitStack() as stack:
        for step in reversed(session.at_end):
            stack.callback(step)


def refuse_second_init() -> None:
    """Raises InitError when this process takes part in a session already."""
    if current is None:
        return
    if current.mode == WORKER_MODE:
        raise InitError(
            "ray.init was called inside a task or an actor, which is part of a session already: "
            "use the API as it is."
        )
    raise InitError(
        "ray.init was called a second time. A process takes part in one session; "
        "call ray.shutdown() before another init."
    )


def require(what: str) -> Current:
    """The current session.  Raises RayConnectionError (or ForkedProcessError) that names the call."""
    if current is None:
        if _forked:
            raise ForkedProcessError(what)
        raise RayConnectionError.not_started(what)
    return current


def _after_fork() -> None:
    """The child shares the parent's connection in memory only; it must neither use nor end it."""
    global current, _forked, _lock, _remembering
    _lock, _remembering = threading.Lock(), threading.RLock()
    if current is not None:
        _forked = True
        current = None


os.register_at_fork(after_in_child=_after_fork)
