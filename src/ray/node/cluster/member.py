"""A node manager's part in a cluster: everything else of `ray.node.cluster`, put together.

One event loop, which hears when the arena has news (`ray.node.cluster.bell`).
"""

import asyncio
import contextlib
import functools
import socket
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Concatenate, ParamSpec

from ray import _kernel
from ray.control_store.nodes import NodeTable
from ray.errors import PeerUnreachableError, RayConnectionError
from ray.node.cluster.bell import NEWS_AT_ONCE, Alarm, Bell
from ray.node.cluster.correspondence import Correspondence
from ray.node.cluster.doors import Doors
from ray.node.cluster.exchange import GRACE_S, Exchange
from ray.node.cluster.farewell import Farewell
from ray.node.cluster.guests import Guests
from ray.node.cluster.head import Entries, NotKept, Table
from ray.node.cluster.inbox import Inbox
from ray.node.cluster.joining import Joining
from ray.node.cluster.loads import Loads
from ray.node.cluster.network import Network
from ray.node.cluster.node_table import StoredTable
from ray.node.cluster.notes import node_name
from ray.node.cluster.scheduler import Scheduler
from ray.node.cluster.standing import Standing
from ray.node.cluster.transfers import Pulls
from ray.node.cluster.unmet import Unmet
from ray.policy.cluster.membership import TICK_MS
from ray.policy.cluster.queue_looks import QueueLooks
from ray.session.record import SessionRecord
from ray.session.say import say
from ray.wire.identity import Identity
from ray.wire.link import End
from ray.wire.messages import PROTOCOL, Hello, Message, Resources, Result, View

BUSY_TICK_S = 0.1  # between two looks, at least: tasks one at a time stir a thousand times a second
IDLE_TICK_S = TICK_MS / 1000
SAID_MAX = 32  # kinds of errors: what peers do must not fill a log
TABLE_S = 3.0  # for the head's table of nodes to be read, before others are let in

Handled = ParamSpec("Handled")


def _step(
    handle: "Callable[Concatenate[Member, Handled], None]",
) -> "Callable[Concatenate[Member, Handled], None]":
    """What an event sends leaves when it has been dealt with. When the arena is shut there is nothing to say
    any more."""

    @functools.wraps(handle)
    def handled(member: "Member", /, *args: Handled.args, **kwargs: Handled.kwargs) -> None:
        step = member.network.step
        step.begin()
        try:
            handle(member, *args, **kwargs)
        except _kernel.ArenaClosed:
            pass
        finally:
            step.end()

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
        alarm: Alarm | None = None,
    ) -> None:
        """`listening` is where other nodes reach this one. `jobs_ended` is called when drivers of other nodes
        have ended. `alarm` is the loop's that it runs on, if that hears a bell."""
        self.arena = arena
        self.release = release
        self.listening = listening
        self.executor = executor
        self.node = bytes.fromhex(record.node_id)
        self.is_head = not record.head_address
        self.rejoins = False
        identity = Identity(record.cluster_identity.encode())
        source = _own_address(listening)
        self.network = Network(identity, self.node, self.hello, self, source)
        self.pulls = Pulls(arena, identity, self.network.way, self._on_pulled, source)
        guests = Guests(arena, self.node, lambda: self.correspondence.follow(), jobs_ended)
        self.exchange = Exchange(arena, self.node, self.network, self.pulls, guests)
        peers = self.exchange.peers
        peers.label = f"{record.node_ip_address} ({record.node_id[:8]})"
        self.correspondence = Correspondence(
            arena, peers, record.logs, identity, self.network.way, self._node_name
        )
        self.unmet = Unmet(arena, record, self._stock, self._node_name)
        self.scheduler = Scheduler(
            arena,
            self.node,
            self.exchange.tasks,
            self.network.is_linked,
            self.network.want_link,
            self.unmet.report,
        )
        self.exchange.wanted.on_located = self._on_located
        self._stirred = asyncio.Event()  # something may have changed: the next look does not wait
        self._jobs_ended = 0  # ever, as of the last look
        self.bell = Bell(arena, self._take_news, alarm)
        self.queue_looks = QueueLooks()
        self.table: StoredTable | None = None
        if self.is_head and record.control_store:
            stored = NodeTable(record.control_store[0], record.redis_password, record.store_holder())
            self.table = StoredTable(stored, self._on_store, self._on_table_read)
        table: Table | None = self.table or NotKept() if self.is_head else None
        self.standing = Standing(self.node, peers.by_node, self.network, self, _boot_ms, table, _now_ms())
        self.exchange.burials.members = lambda: self.standing.present
        self.head = self.standing.head
        self.joining = Joining(record.head_address, self.network, self.standing, self.hello)
        self.farewell = Farewell(
            arena, self.exchange, self.network, self.standing, record.leaves_by_ms, self._stirred.set
        )
        store = record.control_store[0] if self.is_head and record.control_store else None
        self.doors = Doors(arena, self.network, self.farewell.operators.accept, store)
        self.loads = Loads(arena, self.standing, lambda: self.farewell.departure.is_under_way)
        self.inbox = Inbox(
            self.standing,
            self.exchange,
            self.scheduler,
            self.correspondence,
            self.farewell,
            self._stirred.set,
            self._may_place,
        )
        self._is_to_look_for_places = False
        self._is_to_place = False
        self._said: set[str] = set()  # kinds of errors

    def hello(self) -> Hello:
        total, _ = self.arena.resources()
        return Hello(
            PROTOCOL,
            self.release,
            self.node,
            b"",
            self.doors.listener.address,
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
        self.doors.open(self.listening)
        if self.head is not None:
            self.head.on_link_up(self.node, self.hello(), _now_ms())
        self.bell.open()
        try:
            while not (self.arena.is_shut or self.farewell.has_left or self.rejoins):
                self._stirred.clear()
                looked_s = self.loop.time()
                if storing is not None and storing.done():
                    await storing  # which ends by an error only
                if not self._tick():
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._stirred.wait(), IDLE_TICK_S)
                await asyncio.sleep(looked_s + BUSY_TICK_S - self.loop.time())
        finally:
            self.bell.close()
            self.doors.listener.close()
            if storing is not None:
                storing.cancel()
                await asyncio.gather(storing, return_exceptions=True)
            await self.joining.close()
            await self.doors.close()
            self.farewell.operators.close("this node's manager ends")
            await self.network.close("this node's manager ends")
            await self.pulls.close()
            self.doors.bulk.close()
            await self.correspondence.close()

    # --- news ---

    @_step
    def _take_news(self) -> None:
        """To take a result is to lend the ids in it: between that and the message to the peer no Sync, which
        ends such loans, nor a death may come. So both are one step of the loop.
        """
        self._stirred.set()
        self.standing.may_act()  # if this process was stopped, what follows is kept from leaving
        pause, queue_pause_ms = False, 0.0
        try:
            news = self.arena.news(NEWS_AT_ONCE, 0)
            kinds = {item[0] for item in news}
            if _kernel.NEWS_DONE in kinds:  # what a task has printed is there before its result is
                self.correspondence.tell(_now_ms(), at_once=True)
            self._pass_on(news)
            self.correspondence.codes.look()
            if _kernel.NEWS_QUEUED in kinds:
                queue_pause_ms = self._look_at_queue(_now_ms())
            pause = self.bell.may_pause(kinds, len(news))
        finally:
            self.bell.arm(pause, queue_pause_ms)

    def _pass_on(self, news: "list[_kernel.News]") -> None:
        try:
            self.exchange.on_news(news)
        except (_kernel.ArenaClosed, _kernel.ArenaCorrupt):
            raise
        except Exception as error:  # each link begins with what is not known over there
            kind = self._say_once(error, "what is new here can't be passed on; all links begin anew")
            for node in self.network.linked():
                self.network.close_link(node, f"what is new there can't be passed on ({kind})")

    def _look_at_queue(self, now_ms: int) -> float:
        """Milliseconds until the next look is worth it."""
        if not self.arena.ready_tasks:
            return self.queue_looks.found_none(now_ms)
        return self.queue_looks.looked(self.scheduler.place(now_ms), now_ms)

    # --- the network's events ---

    @_step
    def on_link_up(self, node: bytes, hello: Hello) -> None:
        self._stirred.set()
        if hello.is_head:
            self.loads.begin_anew()
        if self.standing.on_link_up(node, hello, self.network.is_around(node), _now_ms()):
            self.inbox.partners.add(node)
            self.exchange.on_link_up(node)
            self.correspondence.telling.on_link_up(node)

    @_step
    def on_link_down(self, node: bytes, end: End) -> None:
        self._stirred.set()
        self.inbox.partners.discard(node)
        self.exchange.on_link_down(node)
        self.farewell.on_link_down(node)
        self.standing.on_link_down(node, _now_ms())

    def on_needed(self, node: bytes) -> None:
        self.standing.needs_link(node)

    def on_no_link(self, node: bytes, error: RayConnectionError) -> None:
        if isinstance(error, PeerUnreachableError) and error.refused:
            self.standing.on_refused(node, _now_ms())

    def on_replaced(self, node: bytes, by: bytes) -> None:
        self.standing.on_replaced(node, by, _now_ms())

    @_step
    def on_messages(self, node: bytes, messages: list[Message]) -> None:
        try:
            self.inbox.take(node, messages)
        except (_kernel.ArenaClosed, _kernel.ArenaCorrupt):
            raise
        except Exception as error:  # whatever it has said, this node goes on
            self._on_nonsense(node, error)
        self.bell.look()
        if self._is_to_look_for_places:
            self._is_to_look_for_places = False
            self._place_soon()

    def _on_nonsense(self, node: bytes, error: Exception) -> None:
        """What a peer has said can't be acted upon. As with a damaged frame the link ends, and the next one
        begins with all that counts."""
        said = f"what {self._node_name(node)} has sent can't be acted upon; the link to it begins anew"
        kind = self._say_once(error, said)
        self.network.close_link(node, f"what it has sent can't be acted upon ({kind})")

    def _say_once(self, error: Exception, what: str) -> str:
        """With the traceback, of each kind of error, which it returns."""
        kind = f"{type(error).__name__}: {error}"
        if kind not in self._said and len(self._said) < SAID_MAX:
            self._said.add(kind)
            say(f"{what}.\n{traceback.format_exc()}")
        return kind

    def _may_place(self) -> None:
        """What has come may have made room for tasks."""
        self._is_to_look_for_places = True

    def _place_soon(self) -> None:
        """Once in a turn of the loop, however many links have brought results: a decision looks at every
        node, and with a thousand of them as many decisions would keep the loop from all else for seconds.
        To be called after a look at the news: what a driver has submitted meanwhile, with its result in hand,
        is placed by that."""
        if not self._is_to_place and self.arena.ready_tasks:
            self._is_to_place = True
            self.loop.call_soon(self._place)

    @_step
    def _place(self) -> None:
        self._is_to_place = False
        self.scheduler.place(_now_ms())

    # --- members: what its standing has done ---

    def on_view(self, view: View) -> None:
        for state in view.nodes:
            if state.node_id != self.node and state.address:
                self.network.learn(state.node_id, state.address)
        self.exchange.peers.want_links()
        self.farewell.operators.on_view()
        self.scheduler.on_view(view, _now_ms())
        self.scheduler.place(_now_ms())

    def bury(self, node: bytes, reason: str) -> None:
        name = self._name_when_gone(node)
        self.network.forget(node, reason)
        self.correspondence.hearing.forget(node)
        self.pulls.gone(node)
        kept = self.exchange.on_death(node, name)
        self.loop.call_later(GRACE_S, kept.clear)

    def fence(self, reason: str) -> None:
        say(f"this node does nothing for others any more: {reason}. What its own drivers do here goes on.")
        self.network.fence(reason)

    def resume(self) -> None:
        say("the head has answered: this node is a member as before.")
        self.network.resume("the two begin anew")
        self.exchange.peers.want_links()

    def rejoin(self) -> None:
        """To this incarnation all others are dead, as it is to them: its tasks run again here, what it had of
        theirs is let go."""
        if self.farewell.on_declared_dead():
            return
        say("this node was declared dead, and joins again as a new one, with its drivers and objects.")
        self.rejoins = True
        self._stirred.set()
        kept = self.exchange.end_incarnation(self._name_when_gone)
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

    # --- time ---

    def _tick(self) -> bool:
        """Whether to look again soon. What it reads of an idle arena is counts, without a lock."""
        now = _now_ms()
        stats = self.arena.stats()
        if stats["jobs_ended"] != self._jobs_ended:
            self._jobs_ended = stats["jobs_ended"]
            self.exchange.jobs.on_ended()
            self.scheduler.forget_ours()
            self.correspondence.on_jobs_ended()
        self.exchange.tick()
        self.correspondence.tick(now)
        self.farewell.tick(now)
        if self.farewell.has_left:
            return False
        load = self.loads.look(stats)
        if load.demands:  # a link that one of them waited for may be up by now
            self.scheduler.place(now)
        if not load.draining:  # what fits nowhere else is still done here
            self.unmet.tick(bool(load.demands), now)
        is_busy = self.loads.has_changed or bool(load.demands) or self.scheduler.has_tasks_away
        is_busy = is_busy or self.correspondence.hearing.is_to_tick or self.farewell.is_under_way
        is_busy = is_busy or bool(self.exchange.orphans)
        self.standing.has_to_do_with(self.exchange.peers.by_node.keys(), now)
        if self.head is not None:
            self.loads.told(load, now)
            self.head.on_load(self.node, load, now)
            self.standing.tick(now)
            return is_busy or self.head.has_changed
        self.standing.tick(now)
        head_node = self.standing.head_node
        if head_node is None or not self.network.is_linked(head_node):
            self.joining.go_on()
            return True
        if self.loads.is_due(load, now):
            self.loads.told(load, now)
            self.network.send(head_node, load)
        return is_busy

    # --- what its parts ask of each other ---

    def _node_name(self, node: bytes) -> str:
        return node_name(node, {**self.network.addresses, self.node: self.doors.listener.address})

    def _name_when_gone(self, node: bytes) -> str:
        """Another may have its address by then."""
        return f"{self._node_name(node)} ({node.hex()[:8]})"

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
        self.exchange.wanted.on_pulled(value, oid, nested, block)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _boot_ms() -> int:
    """Of the clock that goes on while the machine is suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def _own_address(listening: socket.socket) -> str:
    """Nodes that share a machine connect from their own loopback addresses, to be told apart."""
    host: str = listening.getsockname()[0]
    return host if host.startswith("127.") else ""
