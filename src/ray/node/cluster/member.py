"""A node manager's part in a cluster: everything else of `ray.node.cluster`, put together.

One event loop; a thread of the kernel's rings when the arena has news.
"""

import asyncio
import contextlib
import functools
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import ParamSpec

from ray import _kernel
from ray.errors import PeerUnreachableError, RayConnectionError
from ray.node.cluster.exchange import GRACE_S, Exchange
from ray.node.cluster.guests import Guests
from ray.node.cluster.head import Head
from ray.node.cluster.network import Network
from ray.node.cluster.scheduler import Scheduler
from ray.node.cluster.transfers import Pulls, resolver
from ray.policy.cluster.membership import TICK_MS
from ray.policy.cluster.placement import Infeasible
from ray.session.record import SessionRecord
from ray.session.say import say
from ray.wire.bulk import BulkServer
from ray.wire.connecting import connect
from ray.wire.identity import BULK, LINK, REDIS, Identity
from ray.wire.link import End, LinkHost
from ray.wire.listener import Listener
from ray.wire.messages import PROTOCOL, Demand, Hello, Load, Message, Resources, Result, View
from ray.wire.pipe import PipeHost

NEWS_AT_ONCE = 512
# While tasks wait for this node's workers, results are looked at this often: many at one wake-up. Whoever
# runs one task at a time leaves none waiting, so no answer is late for it.
PAUSE_S = 0.02
BUSY_TICK_S = 0.1  # between two looks while something changes
IDLE_TICK_S = TICK_MS / 1000
LOAD_REPEAT_MS = 1_000  # a load is sent this often even if nothing has changed: the node is there
JOIN_RETRY_S = 0.2
CAN_WAIT = {_kernel.NEWS_DONE, _kernel.NEWS_GONE, _kernel.NEWS_QUEUED}

Handled = ParamSpec("Handled")


def _while_open(handle: Callable[Handled, None]) -> Callable[Handled, None]:
    """Events that come when the arena is shut have nothing to say any more."""

    @functools.wraps(handle)
    def handled(*args: Handled.args, **kwargs: Handled.kwargs) -> None:
        with contextlib.suppress(_kernel.ArenaClosed):
            handle(*args, **kwargs)

    return handled


class Member:
    def __init__(
        self,
        arena: _kernel.Arena,
        record: SessionRecord,
        release: str,
        listening: socket.socket,
        executor: Executor,
        jobs_ended: Callable[[], None],
    ) -> None:
        """`listening` is where other nodes reach this one. `jobs_ended` is called when drivers of other nodes
        have ended."""
        self.arena = arena
        self.record = record
        self.release = release
        self.listening = listening
        self.executor = executor
        self.node = bytes.fromhex(record.node_id)
        self.is_head = not record.head_address
        identity = Identity(record.cluster_identity.encode())
        self.network = Network(identity, self.node, self.hello, self)
        self.pulls = Pulls(arena, identity, self.network.addresses.get, self._on_pulled)
        self.guests = Guests(arena, self.node, jobs_ended)
        self.exchange = Exchange(arena, self.node, self.network, self.pulls, self.guests)
        self.scheduler = Scheduler(
            arena, self.node, self.exchange, self.network.is_linked, self.network.want_link, self._infeasible
        )
        self.links = LinkHost(self.hello, self.network.on_link, self._on_refused)
        self.bulk = BulkServer(resolver(arena))
        purposes = {LINK: self.links.accept, BULK: self.bulk.accept}
        self.pipe: PipeHost | None = None
        if self.is_head and record.control_store:
            host, _, port = record.control_store[0].rpartition(":")
            self.pipe = PipeHost(host, int(port))
            purposes[REDIS] = self.pipe.accept
        self.listener = Listener(identity, purposes)
        self._stirred = asyncio.Event()  # something may have changed: the next look comes at once
        self._jobs_ended = 0  # ever, as of the last look
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.head: Head | None = None
        self.head_node: bytes | None = None
        self._present: set[bytes] = set(self.exchange.by_node)
        self._load_number = 0
        self._last_load: Load | None = None
        self._load_sent_ms = 0
        self._reported: set[tuple[int, ...]] = set()

    def hello(self) -> Hello:
        total, _ = self.arena.resources()
        return Hello(
            PROTOCOL,
            self.release,
            self.node,
            b"",
            self.listener.address,
            self.is_head,
            Resources(*total),
        )

    async def run(self) -> None:
        """Until the arena is shut."""
        self.loop = asyncio.get_running_loop()
        self.listener.take_over(self.listening)
        if self.is_head:
            self.head = Head(
                self.node, self._present, _now_ms(), self._send_view, self.network.want_link, self._bury
            )
            self.head.on_link_up(self.node, self.hello(), _now_ms())
        self.loop.add_reader(self._bell, self._on_bell)
        self.arena.listen(self._bell)
        self.arena.arm()
        try:
            while not self.arena.is_shut:
                self._stirred.clear()
                if self._tick():
                    await asyncio.sleep(BUSY_TICK_S)
                else:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._stirred.wait(), IDLE_TICK_S)
        finally:
            self.arena.listen(None)
            self.loop.remove_reader(self._bell)
            os.close(self._bell)
            self.listener.close()
            await self.links.close()
            if self.pipe is not None:
                await self.pipe.close()
            await self.network.close("this node's manager ends")
            await self.pulls.close()
            self.bulk.close()

    # --- news ---

    def _on_bell(self) -> None:
        os.eventfd_read(self._bell)
        self._take_news()

    @_while_open
    def _take_news(self) -> None:
        """To take a result is to lend the ids in it: between that and the message to the peer no Sync, which
        ends such loans, nor a death may come. So both are one step of the loop.
        """
        self._stirred.set()
        pause = False
        try:
            news = self.arena.news(NEWS_AT_ONCE, 0)
            self.exchange.on_news(news)
            kinds = {item[0] for item in news}
            if _kernel.NEWS_QUEUED in kinds:
                self.scheduler.place(_now_ms())
            pause = (
                _kernel.NEWS_DONE in kinds
                and kinds <= CAN_WAIT
                and len(news) < NEWS_AT_ONCE
                and bool(self.arena.stats()["ready_tasks"])
            )
        finally:
            if pause:
                self.loop.call_later(PAUSE_S, self.arena.arm)
            else:
                self.arena.arm()

    # --- the network's events ---

    @_while_open
    def on_link_up(self, node: bytes, hello: Hello) -> None:
        self._stirred.set()
        if hello.is_head:
            self.head_node = node
            self._last_load = None
        self.exchange.on_link_up(node)
        if self.head is not None:
            self.head.on_link_up(node, hello, _now_ms())

    @_while_open
    def on_link_down(self, node: bytes, end: End) -> None:
        self._stirred.set()
        self.exchange.on_link_down(node)
        if self.head is not None:
            self.head.on_link_down(node, _now_ms())

    def on_no_link(self, node: bytes, error: RayConnectionError) -> None:
        if self.head is not None and isinstance(error, PeerUnreachableError) and error.refused:
            self.head.on_refused(node, _now_ms())

    @_while_open
    def on_messages(self, node: bytes, messages: list[Message]) -> None:
        finished: list[bytes] = []
        for message in messages:
            if isinstance(message, Load):
                if self.head is not None and self.head.on_load(node, message, _now_ms()):
                    self._stirred.set()
            elif isinstance(message, View):
                self._on_view(message)
            else:
                finished += self.exchange.on_message(node, message)
                self._stirred.set()
        if finished:
            self.scheduler.on_finished(node, finished, _now_ms())
            self.scheduler.place(_now_ms())
        if self.head is not None:
            self.head.authority.heard(node, _now_ms())

    def _on_refused(self, address: str, error: Exception) -> None:
        say(f"a connection from {address} was refused: {error}")

    # --- members ---

    def _on_view(self, view: View) -> None:
        present = {state.node_id for state in view.nodes}
        for state in view.nodes:
            if state.node_id != self.node and state.address:
                self.network.learn(state.node_id, state.address)
        for node in self._present - present:
            self._bury(node, "the head has declared it dead")
        self.exchange.want_links()
        self._present = present
        self.scheduler.on_view(view, _now_ms())
        self.scheduler.place(_now_ms())

    def _send_view(self, view: View) -> None:
        for state in view.nodes:
            if state.node_id != self.node:
                self.network.send(state.node_id, view)
        self._on_view(view)

    def _bury(self, node: bytes, reason: str) -> None:
        self._present.discard(node)
        self.network.forget(node, reason)
        self.pulls.gone(node)
        kept = self.exchange.on_death(node)
        self.loop.call_later(GRACE_S, kept.clear)

    def _tick(self) -> bool:
        """Whether to look again soon. What it reads of an idle arena is counts, without a lock."""
        now = _now_ms()
        stats = self.arena.stats()
        if stats["jobs_ended"] != self._jobs_ended:
            self._jobs_ended = stats["jobs_ended"]
            self.exchange.on_jobs_ended()
        self.exchange.tick()
        load = self._load(stats)
        last = self._last_load
        changed = last is None or (last.free, last.demands) != (load.free, load.demands)
        if load.demands:  # a link that one of them waited for may be up by now
            self.scheduler.place(now)
        is_busy = changed or bool(load.demands) or self.scheduler.has_tasks_away
        if self.head is not None:
            self._last_load = load
            self.head.on_load(self.node, load, now)
            self.head.tick(now)
            return is_busy or self.head.has_changed
        if self.head_node is None or not self.network.is_linked(self.head_node):
            self._join()
            return True
        if changed or now - self._load_sent_ms >= LOAD_REPEAT_MS:
            self._last_load = load
            self._load_sent_ms = now
            self.network.send(self.head_node, load)
        return is_busy

    def _join(self) -> None:
        if self._joining is None or self._joining.done():
            self._joining = self.loop.create_task(self._connect_to_head())

    async def _connect_to_head(self) -> None:
        try:
            link = await connect(self.record.head_address, self.network.identity, self.hello())
        except RayConnectionError as error:
            if str(error) != self._join_error:
                self._join_error = str(error)
                say(f"the head can't be reached, and is tried again: {error}")
            await asyncio.sleep(JOIN_RETRY_S)
            return
        self._join_error = ""
        self.network.on_link(link, self.node)

    _joining: asyncio.Task[None] | None = None
    _join_error = ""

    def _load(self, stats: dict[str, int]) -> Load:
        self._load_number += 1
        queues = self.arena.queues() if stats["ready_tasks"] else []
        return Load(
            self._load_number,
            Resources(stats["cpu_total"], stats["gpu_total"], stats["custom_total"]),
            Resources(stats["cpu_free"], stats["gpu_free"], stats["custom_free"]),
            [Demand(Resources(cpu, gpu, custom), ready) for _, cpu, gpu, custom, ready, _ in queues],
            stats["heap_capacity_bytes"],
            stats["heap_used_bytes"],
        )

    def _infeasible(self, infeasible: tuple[Infeasible, ...]) -> None:
        for each in infeasible:
            if each.needs not in self._reported:
                self._reported.add(each.needs)
                say(
                    f"tasks wait that no node of the cluster can run: they need {_amounts(each.needs)}, and "
                    f"no node has more than {_amounts(each.largest)}. They run when a node joins that can."
                )

    @_while_open
    def _on_pulled(
        self,
        value: Result,
        oid: _kernel.ObjectID,
        nested: list[_kernel.ObjectID],
        block: _kernel.Block | None,
    ) -> None:
        self.exchange.on_pulled(value, oid, nested, block)


def _amounts(amounts: tuple[int, ...]) -> str:
    names = ("CPUs", "GPUs", "of the custom resource")
    said = [
        f"{amount / _kernel.UNIT:g} {name}" for amount, name in zip(amounts, names, strict=True) if amount
    ]
    return ", ".join(said) or "nothing"


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
