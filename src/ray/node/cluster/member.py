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
from typing import Concatenate, ParamSpec

from ray import _kernel
from ray.control_store.nodes import NodeTable
from ray.errors import PeerUnreachableError, RayConnectionError
from ray.node.cluster.codes import Codes
from ray.node.cluster.draining import Departure, Takeover
from ray.node.cluster.exchange import GRACE_S, Exchange
from ray.node.cluster.guests import Guests
from ray.node.cluster.head import Entries, NotKept, Table
from ray.node.cluster.network import CONNECT_S, Network
from ray.node.cluster.node_table import StoredTable
from ray.node.cluster.notes import Hearing, Telling, node_name
from ray.node.cluster.operators import Operators
from ray.node.cluster.scheduler import Scheduler
from ray.node.cluster.standing import Standing
from ray.node.cluster.transfers import Pulls, resolver
from ray.node.cluster.unmet import Unmet
from ray.policy.cluster.membership import TICK_MS
from ray.policy.cluster.views import LEAST_MS, least_ms
from ray.session.record import SessionRecord
from ray.session.say import say
from ray.wire.bulk import BulkServer
from ray.wire.connecting import connect
from ray.wire.identity import BULK, LINK, REDIS, RELAY, Identity
from ray.wire.link import End, Link, LinkHost
from ray.wire.listener import Listener
from ray.wire.messages import (
    PROTOCOL,
    CodeGiven,
    CodeWanted,
    Demand,
    Drain,
    Hello,
    JobNote,
    JobNoted,
    Leaving,
    Load,
    Message,
    Offer,
    Resources,
    Result,
    Return,
    Sync,
    Taken,
    Untaken,
    View,
)
from ray.wire.pipe import PipeHost
from ray.wire.relay import RelayHost

NEWS_AT_ONCE = 512
# While tasks wait for this node's workers, results are looked at this often: many at one wake-up. Whoever
# runs one task at a time leaves none waiting, so no answer is late for it.
PAUSE_S = 0.02
BUSY_TICK_S = 0.1  # between two looks, at least: tasks one at a time stir a thousand times a second
IDLE_TICK_S = TICK_MS / 1000
LOAD_REPEAT_MS = 1_000  # a load is sent this often even if nothing has changed: the node is there
JOIN_RETRY_S = 0.2
GOODBYE_S = 1.0  # for the head to hear that this node has left
TABLE_S = 3.0  # for the head's table of nodes to be read, before others are let in
CAN_WAIT = {_kernel.NEWS_DONE, _kernel.NEWS_GONE, _kernel.NEWS_QUEUED}

Handled = ParamSpec("Handled")


def _step(
    handle: "Callable[Concatenate[Member, Handled], None]",
) -> "Callable[Concatenate[Member, Handled], None]":
    """What an event sends leaves when it has been dealt with. When the arena is shut there is nothing to say
    any more."""

    @functools.wraps(handle)
    def handled(member: "Member", /, *args: Handled.args, **kwargs: Handled.kwargs) -> None:
        with contextlib.suppress(_kernel.ArenaClosed), member.network.step():
            handle(member, *args, **kwargs)

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
        source = _own_address(listening)
        self.network = Network(identity, self.node, self.hello, self, source)
        self.pulls = Pulls(arena, identity, self.network.way, self._on_pulled, source)
        self.guests = Guests(arena, self.node, jobs_ended)
        self.exchange = Exchange(arena, self.node, self.network, self.pulls, self.guests)
        self.exchange.label = label = f"{record.node_ip_address} ({record.node_id[:8]})"
        self.telling = Telling(arena, record.logs, self.exchange.tell, label)
        self.hearing = Hearing(arena, record.logs, self.exchange.tell, self._node_name)
        self.codes = Codes(
            arena,
            self.node,
            record.logs,
            self.exchange.tell,
            self.exchange,
            identity,
            self.network.way,
        )
        self.unmet = Unmet(arena, record, self._stock, self._node_name)
        self.scheduler = Scheduler(
            arena,
            self.node,
            self.exchange,
            self.network.is_linked,
            self.network.want_link,
            self.unmet.report,
        )
        self.exchange.on_located = self._on_located
        self.departure = Departure(
            arena,
            self.exchange,
            self.network.send,
            self._leave,
            record.leaves_by_ms,
            has_no_head=lambda: self.standing.has_no_head(),
        )
        self.takeover = Takeover(self.exchange, self.network.send)
        self.operators = Operators(
            self._on_drain, lambda: self.head.view() if self.head is not None else None
        )
        self.has_left = False  # in good order: the node is to end
        self.links = LinkHost(self.hello, self._on_link, self._on_refused)
        self.bulk = BulkServer(resolver(arena))
        self.relay = RelayHost(self.network.open_to)
        purposes = {LINK: self.links.accept, BULK: self.bulk.accept, RELAY: self.relay.accept}
        self.pipe: PipeHost | None = None
        if self.is_head and record.control_store:
            host, _, port = record.control_store[0].rpartition(":")
            self.pipe = PipeHost(host, int(port))
            purposes[REDIS] = self.pipe.accept
        self.listener = Listener(identity, purposes)
        self._stirred = asyncio.Event()  # something may have changed: the next look does not wait
        self._jobs_ended = 0  # ever, as of the last look
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.table: StoredTable | None = None
        if self.is_head and record.control_store:
            stored = NodeTable(record.control_store[0], record.redis_password, record.store_holder())
            self.table = StoredTable(stored, self._on_store, self._on_table_read)
        table: Table | None = self.table or NotKept() if self.is_head else None
        self.standing = Standing(self.node, self.exchange.by_node, self, _boot_ms, table, _now_ms())
        self.exchange.members = lambda: self.standing.present
        self.head = self.standing.head
        self.rejoins = False
        self._says_goodbye = False
        self._is_to_place = False
        self._load_number = 0
        self._last_load: Load | None = None
        self._load_sent_ms = 0

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
        """Until the arena is shut, or this incarnation is over (`rejoins`)."""
        self.loop = asyncio.get_running_loop()
        storing = None
        if self.table is not None:
            storing = self.loop.create_task(self.table.run())
            with contextlib.suppress(TimeoutError):
                # Who was declared dead under the node manager before this one must not come back.
                await asyncio.wait_for(self.table.was_read.wait(), TABLE_S)
        self.listener.take_over(self.listening)
        if self.head is not None:
            self.head.on_link_up(self.node, self.hello(), _now_ms())
        self.loop.add_reader(self._bell, self._on_bell)
        self.arena.listen(self._bell)
        self.arena.arm()
        try:
            while not (self.arena.is_shut or self.has_left or self.rejoins):
                self._stirred.clear()
                looked_s = self.loop.time()
                if storing is not None and storing.done():
                    await storing  # which ends by an error only
                if not self._tick():
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._stirred.wait(), IDLE_TICK_S)
                await asyncio.sleep(looked_s + BUSY_TICK_S - self.loop.time())
        finally:
            self.arena.listen(None)
            self.loop.remove_reader(self._bell)
            os.close(self._bell)
            self.listener.close()
            for task in (storing, self._joining):
                if task is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
            await self.links.close()
            await self.relay.close()
            if self.pipe is not None:
                await self.pipe.close()
            self.operators.close("this node's manager ends")
            await self.network.close("this node's manager ends")
            await self.pulls.close()
            self.bulk.close()
            self.telling.close()
            await self.codes.close()

    # --- news ---

    def _on_bell(self) -> None:
        os.eventfd_read(self._bell)
        self._take_news()

    @_step
    def _take_news(self) -> None:
        """To take a result is to lend the ids in it: between that and the message to the peer no Sync, which
        ends such loans, nor a death may come. So both are one step of the loop.
        """
        self._stirred.set()
        self.standing.may_act()  # if this process was stopped, what follows is kept from leaving
        pause = False
        try:
            news = self.arena.news(NEWS_AT_ONCE, 0)
            if any(item[0] == _kernel.NEWS_DONE for item in news):
                self._tell(at_once=True)  # what a task has printed is there before its result is
            self.exchange.on_news(news)
            self.codes.look()
            kinds = {item[0] for item in news}
            if _kernel.NEWS_QUEUED in kinds:
                self.scheduler.place(_now_ms())
            pause = (
                _kernel.NEWS_DONE in kinds
                and kinds <= CAN_WAIT
                and len(news) < NEWS_AT_ONCE
                and self.arena.ready_tasks > 0
            )
        finally:
            if pause:
                self.loop.call_later(PAUSE_S, self.arena.arm)
            else:
                self.arena.arm()

    # --- the network's events ---

    @_step
    def on_link_up(self, node: bytes, hello: Hello) -> None:
        self._stirred.set()
        if hello.is_head:
            self._last_load = None
        if self.standing.on_link_up(node, hello, self.network.is_around(node), _now_ms()):
            self.exchange.on_link_up(node)
            self.telling.on_link_up(node)

    @_step
    def on_link_down(self, node: bytes, end: End) -> None:
        self._stirred.set()
        self.exchange.on_link_down(node)
        self.departure.on_link_down(node)
        self.takeover.on_link_down(node)
        self.standing.on_link_down(node, _now_ms())
        self.has_left = self.has_left or (self._says_goodbye and node == self.standing.head_node)

    def on_needed(self, node: bytes) -> None:
        self.standing.needs_link(node)

    def on_no_link(self, node: bytes, error: RayConnectionError) -> None:
        if isinstance(error, PeerUnreachableError) and error.refused:
            self.standing.on_refused(node, _now_ms())

    def on_replaced(self, node: bytes, by: bytes) -> None:
        self.standing.on_replaced(node, by, _now_ms())

    @_step
    def on_messages(self, node: bytes, messages: list[Message]) -> None:
        finished: list[bytes] = []
        now = _now_ms()
        for message in messages:
            if isinstance(message, Load):
                if self.head is not None and self.head.on_load(node, message, now):
                    self._stirred.set()
            elif self.standing.on_message(node, message, now) or not self.standing.may_act():
                continue
            elif isinstance(message, JobNote):
                self.hearing.on_note(node, message)
            elif isinstance(message, JobNoted):
                self.telling.on_noted(node, message)
                self._stirred.set()
            elif isinstance(message, CodeWanted):
                self.codes.on_wanted(node, message)
            elif isinstance(message, CodeGiven):
                self.codes.on_given(node, message)
            elif isinstance(message, Drain | Offer | Taken | Leaving):
                self._on_leaving(node, message)
            else:
                finished += self.exchange.on_message(node, message)
                self._stirred.set()
                if isinstance(message, Untaken):
                    self.scheduler.avoid(node)
                elif isinstance(message, Sync) and message.last:
                    self._place_soon()  # tasks may have waited for the link
                elif isinstance(message, Return):
                    self.departure.on_return(node, message)
                elif isinstance(message, Sync):  # tasks may have waited for this link
                    self._place_soon()
        if finished:
            self.scheduler.on_finished(node, finished, now)
            self._place_soon()

    def _place_soon(self) -> None:
        """Once in a turn of the loop, however many links have brought results: a decision looks at every
        node, and with a thousand of them as many decisions would keep the loop from all else for seconds."""
        if not self._is_to_place and self.arena.ready_tasks:
            self._is_to_place = True
            self.loop.call_soon(self._place)

    @_step
    def _place(self) -> None:
        self._is_to_place = False
        self.scheduler.place(_now_ms())

    def _on_refused(self, address: str, error: Exception) -> None:
        say(f"a connection from {address} was refused: {error}")

    # --- nodes that leave in good order ---

    def drain(self, timeout_ms: int) -> None:
        """This node is to leave within so much time. A head stays."""
        if not self.is_head:
            self.departure.begin(timeout_ms, _now_ms())
            self._stirred.set()

    def _on_link(self, link: Link) -> None:
        if link.peer.address:
            self.network.on_link(link)
        else:
            self.operators.accept(link)

    def _on_drain(self, drain: Drain) -> None:
        """From an operator."""
        if drain.node_id == self.node:
            self.drain(drain.timeout_ms)
        else:
            self.network.send(drain.node_id, drain)

    def _on_leaving(self, node: bytes, message: Message) -> None:
        self._stirred.set()
        if isinstance(message, Drain):
            self.drain(message.timeout_ms)
        elif isinstance(message, Offer):
            self.takeover.on_offer(node, message)
        elif isinstance(message, Taken):
            self.departure.on_taken(node, message)
        elif self.head is not None:
            self.head.on_leaving(node, _now_ms())

    def _leave(self) -> None:
        """Nothing here is needed any more, or the time is over."""
        head = self.standing.head_node
        if head is None or not self.network.is_linked(head):
            self._end()
            return
        self._says_goodbye = True
        self.network.send(head, Leaving())
        self.loop.call_later(GOODBYE_S, self._end)

    def _end(self) -> None:
        self.has_left = True
        self._stirred.set()

    # --- members: what its standing has done ---

    def send(self, node: bytes, message: Message) -> None:
        self.network.send(node, message)

    def send_all(self, nodes: list[bytes], message: Message) -> None:
        self.network.send_all(nodes, message)

    def linked(self) -> list[bytes]:
        return self.network.linked()

    def silent_ms(self, node: bytes) -> int | None:
        return int(1000 * self.network.silent_s(node)) if self.network.is_linked(node) else None

    def want_link(self, node: bytes) -> None:
        self.network.want_link(node)

    def close_link(self, node: bytes, reason: str) -> None:
        self.network.close_link(node, reason)

    def go_around(self, node: bytes, ways: list[bytes]) -> None:
        self.network.go_around(node, ways)

    def learn(self, node: bytes, address: str) -> None:
        self.network.learn(node, address)

    def on_view(self, view: View) -> None:
        for state in view.nodes:
            if state.node_id != self.node and state.address:
                self.network.learn(state.node_id, state.address)
        self.exchange.want_links()
        self.operators.on_view()
        self.scheduler.on_view(view, _now_ms())
        self.scheduler.place(_now_ms())

    def bury(self, node: bytes, reason: str) -> None:
        name = f"{self._node_name(node)} ({node.hex()[:8]})"
        self.network.forget(node, reason)
        self.hearing.forget(node)
        self.pulls.gone(node)
        kept = self.exchange.on_death(node, name)
        self.loop.call_later(GRACE_S, kept.clear)

    def fence(self, reason: str) -> None:
        say(f"this node does nothing for others any more: {reason}. What its own drivers do here goes on.")
        self.network.fence(reason)

    def resume(self) -> None:
        say("the head has answered: this node is a member as before.")
        self.network.resume("the two begin anew")
        self.exchange.want_links()

    def rejoin(self) -> None:
        """To this incarnation all others are dead, as it is to them: its tasks run again here, what it had of
        theirs is let go."""
        if self._says_goodbye:  # the head has heard it
            self._end()
            return
        say("this node was declared dead, and joins again as a new one, with its drivers and objects.")
        self.rejoins = True
        self._stirred.set()
        kept = self.exchange.end_incarnation()
        self.loop.call_later(GRACE_S, kept.clear)

    def _on_store(self, is_up: bool, why: str) -> None:
        if not is_up:
            say(f"the control store {why}: no node is declared dead until that has changed.")
        if self.head is not None:
            self.head.authority.store_changed(is_up, _now_ms())

    @_step
    def _on_table_read(self, entries: Entries) -> None:
        if self.head is not None:
            self.head.read(entries, _now_ms())

    def _tick(self) -> bool:
        """Whether to look again soon. What it reads of an idle arena is counts, without a lock."""
        now = _now_ms()
        stats = self.arena.stats()
        if stats["jobs_ended"] != self._jobs_ended:
            self._jobs_ended = stats["jobs_ended"]
            self.exchange.on_jobs_ended()
            self.hearing.on_jobs_ended()
            jobs = {job for job, _ in self.arena.drivers()} | {job for job, _, _ in self.arena.guests()}
            self.codes.forget(jobs)
        self.exchange.tick()
        self.hearing.tick(now)
        self._tell()
        self.codes.look()
        self.takeover.tick()
        self.departure.tick(now)
        if self.has_left:
            return False
        load = self._load(stats)
        last = self._last_load
        changed = last is None or (last.free, last.demands, last.draining) != (
            load.free,
            load.demands,
            load.draining,
        )
        if load.demands:  # a link that one of them waited for may be up by now
            self.scheduler.place(now)
        if not load.draining:  # what fits nowhere else is still done here
            self.unmet.tick(bool(load.demands), now)
        is_busy = changed or bool(load.demands) or self.scheduler.has_tasks_away or self.hearing.is_to_tick
        is_busy = is_busy or load.draining or self.takeover.is_under_way or bool(self.exchange.orphans)
        if self.head is not None:
            self._last_load = load
            self.head.on_load(self.node, load, now)
            self.standing.tick(now)
            return is_busy or self.head.has_changed
        self.standing.tick(now)
        head_node = self.standing.head_node
        if head_node is None or not self.network.is_linked(head_node):
            self._join()
            return True
        if self._is_to_report(last, load, changed, now):
            self._last_load = load
            self._load_sent_ms = now
            self.network.send(head_node, load)
        return is_busy

    def _is_to_report(self, last: Load | None, load: Load, changed: bool, now: int) -> bool:
        """Who begins to have tasks to place waits for what others have free; the rest may be late, in a large
        cluster."""
        if last is None or bool(last.demands) != bool(load.demands) or last.draining != load.draining:
            return True
        nodes = len(self.standing.present)
        since_ms = now - self._load_sent_ms
        return since_ms >= LOAD_REPEAT_MS or (changed and since_ms >= least_ms(nodes) - LEAST_MS)

    def _tell(self, at_once: bool = False) -> None:
        """To drivers of other nodes what their tasks here have printed, and what has failed."""
        peers = self.exchange.peers.values()
        self.telling.follow({(peer.node, root): job for peer in peers for root, job in peer.guests.items()})
        self.telling.look(_now_ms(), at_once)

    def _node_name(self, node: bytes) -> str:
        return node_name(node, {**self.network.addresses, self.node: self.listener.address})

    def _join(self) -> None:
        head = self.standing.head_node
        if head is not None and head in self.network.addresses and not self.network.is_fenced:
            self.network.want_link(head)
        elif self._joining is None or self._joining.done():
            self._joining = self.loop.create_task(self._connect_to_head())

    async def _connect_to_head(self) -> None:
        try:
            link = await connect(
                self.record.head_address, self.network.identity, self.hello(), CONNECT_S, self.network.source
            )
        except RayConnectionError as error:
            if isinstance(error, PeerUnreachableError) and error.refused:
                self.standing.on_head_refused()
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
            self.departure.is_under_way,
            self.standing.known_dead() if self._last_load is None else [],
        )

    def _stock(self) -> dict[bytes, tuple[int, int, int]]:
        return self.scheduler.stock()

    def _on_located(self, oid: _kernel.ObjectID, node: bytes, size_bytes: int) -> bool:
        return self.scheduler.follow(oid, node, size_bytes, _now_ms())

    @_step
    def _on_pulled(
        self,
        value: Result,
        oid: _kernel.ObjectID,
        nested: list[_kernel.ObjectID],
        block: _kernel.Block | None,
    ) -> None:
        self.exchange.on_pulled(value, oid, nested, block)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _boot_ms() -> int:
    """Of the clock that goes on while the machine is suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def _own_address(listening: socket.socket) -> str:
    """Nodes that share a machine connect from their own loopback addresses, to be told apart."""
    host: str = listening.getsockname()[0]
    return host if host.startswith("127.") else ""
