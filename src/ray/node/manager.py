"""The node manager's process: an event loop over journal, processes and the arena's lock.

It stands between nobody and nothing: workers and drivers go on while it is down, and a new one finds
its place in the arena and in Redis. It unpickles nothing.
"""

import asyncio
import dataclasses
import os
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ray import _kernel
from ray.config import Config
from ray.control_store.writer import StoreWriter
from ray.node.journal_copier import JournalCopier
from ray.node.lock_watch import LockWatch
from ray.node.memory_limits import MemoryLimits
from ray.node.memory_monitor import MemoryMonitor
from ray.node.sweeper import Sweeper
from ray.session import end, processes
from ray.session.record import SessionRecord

if TYPE_CHECKING:
    from ray.node.cluster.bell import Lookout
    from ray.node.cluster.member import Member

TEMPLATE_FIRST_S = 0.5  # a template that survived the keeper ends the session; this long it may take


class NodeManager:
    def __init__(self, arena: _kernel.Arena, record: SessionRecord) -> None:
        self.arena = arena
        self.keeper = record.keeper_pid
        config = Config.with_overrides(record.settings)
        self.drain_ms = config.drain_ms
        # The control store has the head's journal only.
        addresses = [] if record.head_address else record.control_store
        password, kept = record.redis_password, config.error_list_limit
        holder = record.store_holder()
        self.writers = [StoreWriter(address, password, kept, holder) for address in addresses]
        # The journal's reader, who watches memory, who waits for news, and what a member does beside.
        self.executor = ThreadPoolExecutor(4, "ray-node")
        self.copier = JournalCopier(arena, self.writers, record.public(), self.executor)
        self.sweeper = Sweeper(arena, config.sweep_ms)
        self.lock_watch = LockWatch(arena, config.lock_patience_ms, self.sweeper)
        self.memory = MemoryMonitor(arena, config, self.keeper, MemoryLimits(config.memory_fraction))
        self.member: Member | None = None
        self.lookout: Lookout | None = None  # a member's
        self.rejoin: Callable[[], None] = lambda: None  # once there is a member

    def join_cluster(self, record: SessionRecord, release: str, link_fd: int) -> None:
        """When this process is registered in the arena: a member has references of its own there."""
        from ray.node.cluster import bell, member  # a script's own session doesn't pay for it

        listening = socket.socket(fileno=os.dup(link_fd))
        self.lookout = self.lookout or bell.Lookout(self.arena)
        self.member = member.Member(
            self.arena, record, release, listening, self.executor, self.sweeper.look_now, self.lookout
        )
        self.rejoin = lambda: self.join_cluster(self._as_new(), release, link_fd)

    def _as_new(self) -> SessionRecord:
        """The next incarnation of this node. It is in the arena before anybody else hears of it."""
        record = SessionRecord.load(self.arena.session())
        record = dataclasses.replace(record, node_id=os.urandom(len(record.node_id) // 2).hex())
        self.arena.set_session(record.dump())
        return record

    async def _take_part(self) -> None:
        """Until the arena is shut."""
        while self.member is not None:
            await self.member.run()
            if not self.member.rejoins or self.arena.is_shut:
                return
            self.rejoin()

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """What `run` runs on."""
        return asyncio.SelectorEventLoop(self.lookout)

    async def run(self) -> None:
        """Until the session ends, or the keeper dies."""
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Future[Any]] = [
            asyncio.create_task(self.sweeper.run()),
            loop.run_in_executor(self.executor, self.memory.run),
        ]
        if self.writers:
            tasks.append(asyncio.create_task(self.copier.run()))
        if self.member is not None:
            tasks.append(asyncio.create_task(self._take_part()))
        left = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, left.set)
        loop.add_signal_handler(signal.SIGUSR1, self.drain)
        waiting: asyncio.Future[Any] = asyncio.create_task(left.wait())
        try:
            done, _ = await asyncio.wait([*tasks, waiting], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # a bug here is to be seen, and the keeper starts another
        finally:
            self.lock_watch.stop()
            self.memory.stop()
            for task in (*tasks, waiting):
                task.cancel()
            await asyncio.gather(*tasks, waiting, return_exceptions=True)
            for writer in self.writers:
                await writer.close()

    def drain(self) -> None:
        """The keeper was told to end, and its node is one of a cluster."""
        if self.member is not None:
            self.member.farewell.begin(self.drain_ms)


def run(arena_fd: int, link_fd: int, token: str, keeper: int, release: str, is_to_drain: bool) -> None:
    """The process; returns when the session has ended. `is_to_drain`: a manager before it may not have heard
    so.

    Raises SystemExit with LEFT_STATUS when the node has been drained.
    """
    processes.take_short_turns()  # others wait for what it passes on, and its threads
    arena = _kernel.Arena.attach(arena_fd)
    record = SessionRecord.load(arena.session())
    manager = NodeManager(arena, record)
    # Before anything else here waits for the mutex: whoever has it may be stopped.
    manager.lock_watch.start()
    # Other nodes see ids of its calls, by which actors leave, and of what these save: two machines may have
    # the pid and the start time in common from which they would be derived.
    arena.register(_kernel.NODE_MANAGER, os.urandom(16) + bytes(4))
    if record.cluster_token:
        manager.join_cluster(record, release, link_fd)
    if is_to_drain:
        manager.drain()
    with asyncio.Runner(loop_factory=manager.new_loop) as runner:
        runner.run(manager.run())
    if manager.member is not None and manager.member.farewell.has_left:
        raise SystemExit(processes.LEFT_STATUS)
    if os.getppid() != keeper:
        _end_session(arena, token)


def _end_session(arena: _kernel.Arena, token: str) -> None:
    """The keeper was killed. The template knows its workers best; this is in case it is gone too."""
    templates = set()
    if not arena.is_shut:
        templates = {pid for pid, _, kind, _, _ in arena.processes() if kind == _kernel.TEMPLATE}
    end.wait_for_deaths(templates, TEMPLATE_FIRST_S)
    end.end_orphans(arena, token)
