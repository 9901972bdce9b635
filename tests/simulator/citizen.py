"""A machine with its standing in the cluster: it joins a head, is suspected, fences itself, joins again.

The decisions are the real ones (`ray.node.cluster.standing`, `ray.policy.cluster`); here are the sockets and
clocks that a node manager has.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from ray.control_store.nodes import NodeEntry
from ray.node.cluster.standing import Standing
from ray.policy.cluster.reach import TICK_MS
from ray.wire import messages
from ray.wire.messages import PROTOCOL, Hello, Load, Resources, View
from tests.simulator.machine import Machine, Watch
from tests.simulator.model_arena import ModelArena, ModelObjectID
from tests.simulator.network import Network
from tests.simulator.world import World

LOAD_US = 1_000_000
GRACE_US = 15_000_000
SHORT_LIVED_US = 500_000
REFUSED_US = 2_000


class Store:
    """The control store: what was written stays, and it may be away for a while."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.is_up = True
        self.entries: dict[bytes, NodeEntry] = {}
        self.on_change: Callable[[bool], None] = lambda is_up: None
        self._waiting: list[Callable[[], None]] = []

    def write(self, node: bytes, entry: NodeEntry, done: Callable[[], None] | None = None) -> None:
        def written() -> None:
            self.entries[node] = entry
            if done is not None:
                done()

        self._waiting.append(written)
        self.world.after(self.world.random.randrange(1_000, 20_000), self._write)

    def set_up(self, is_up: bool) -> None:
        self.is_up = is_up
        self.world.tell(lambda: f"control store {'up' if is_up else 'down'}")
        self.on_change(is_up)
        self._write()

    def _write(self) -> None:
        while self.is_up and self._waiting:
            self._waiting.pop(0)()


class Citizen(Machine):
    """One node of a cluster; the first is the head."""

    def __init__(
        self, name: bytes, world: World, network: Network, watch: Watch, store: Store | None
    ) -> None:
        self.first_name = name
        self.incarnations = 0
        self.store = store
        self.refuses = True  # when it is dead: its machine answers
        self.successor: Citizen | None = None  # when it is dead: who listens in its place
        self.is_stopped = False
        self.on_buried: Callable[[Citizen, bytes], None] = lambda citizen, node: None
        self.on_fenced: Callable[[Citizen], None] = lambda citizen: None
        self._heard_us: dict[bytes, int] = {}
        self._down_us: dict[bytes, int] = {}
        self._around: set[bytes] = set()
        self._unread: list[Callable[[], None]] = []  # while it is stopped
        self._loads = 0
        self._up: set[bytes] = set()
        self.own_seen: dict[bytes, object] = {}
        super().__init__(name, world, network, watch, ModelArena(name))
        self.standing = self._make_standing()
        world.after(world.random.randrange(1_000 * TICK_MS), self._beat)
        if store is not None:
            store.on_change = self._on_store

    def _make_standing(self) -> Standing:
        return Standing(
            self.name,
            list(self.exchange.peers.by_node),
            self,
            self,
            lambda: self.now_ms,
            self.store,
            self.now_ms,
        )

    @property
    def now_ms(self) -> int:
        return self.world.now_us // 1000

    @property
    def is_head(self) -> bool:
        return self.store is not None

    def hello(self) -> Hello:
        return Hello(PROTOCOL, "1", self.name, b"", self.name.decode(), self.is_head, Resources())

    # --- time ---

    def _beat(self) -> None:
        """A node manager's tick."""
        if not self.alive:
            return
        self.world.after(1_000 * TICK_MS, self._beat)
        if not self.is_stopped:
            self._do(self._tick_standing)

    def _tick_standing(self) -> None:
        self.standing.tick(self.now_ms)
        self.standing.has_to_do_with(self.exchange.peers.by_node.keys(), self.now_ms)
        self._loads += 1
        if self.standing.head is not None:
            if self._loads == 1:
                self.standing.head.on_link_up(self.name, self.hello(), self.now_ms)
            self.standing.head.on_load(self.name, self._load([]), self.now_ms)
            return
        head = self.standing.head_node or self.others[0].name
        if head not in self._up:
            self.want_link(head)
        elif self._loads % (LOAD_US // 1_000 // TICK_MS) == 0:
            self.send(head, self._load([]))

    def _load(self, dead: list[bytes]) -> Load:
        return Load(self._loads, Resources(), Resources(), [], 1, 0, dead=dead)

    def stop(self, stopped_us: int) -> None:
        """Its node manager: SIGSTOP, and SIGCONT so much later. Workers and drivers go on."""
        self.is_stopped = True
        self.network.stopped.add(self.name)
        self.world.tell(lambda: f"{self.name!r}: node manager stopped")
        self.world.after(stopped_us, self._go_on)

    def _go_on(self) -> None:
        self.world.tell(lambda: f"{self.name!r}: node manager goes on")
        self.is_stopped = False
        self.network.stopped.discard(self.name)
        unread, self._unread = self._unread, []
        for each in unread:
            each()
        self._news_soon()

    # --- the network's end ---

    def on_link_up(self, node: bytes) -> None:
        if self.is_stopped:
            self._unread.append(partial(self.on_link_up, node))
            return
        if not self.alive:
            return
        other = next((other for other in self._all() if other.name == node), None)
        if other is None or (self.standing.is_fenced and not other.is_head):
            self.network.close(self.name, node)
            return
        self._up.add(node)
        self._heard_us[node] = self.world.now_us
        self._do(self._link_up, node, other.hello())

    def _all(self) -> "list[Citizen]":
        return [other for other in self.others if isinstance(other, Citizen)]

    def _link_up(self, node: bytes, hello: Hello) -> None:
        if self.standing.on_link_up(node, hello, node in self._around, self.now_ms):
            self.exchange.on_link_up(node)
        if hello.is_head and node in self._up:
            self.send(node, self._load(self.standing.known_dead()))

    def on_link_down(self, node: bytes) -> None:
        if self.is_stopped:
            self._unread.append(partial(self.on_link_down, node))
            return
        self._up.discard(node)
        self._around.discard(node)
        self._down_us[node] = self.world.now_us
        if self.alive:
            self._do(self.exchange.on_link_down, node)
            self._do(self.standing.on_link_down, node, self.now_ms)

    def on_message(self, node: bytes, message: Any) -> None:
        if self.is_stopped:
            self._unread.append(partial(self.on_message, node, message))
        elif self.alive and node in self._up:
            self._heard_us[node] = self.world.now_us
            self._do(self._receive, node, message)

    def _receive(self, node: bytes, message: messages.Message) -> None:
        self.standing.heard(node, self.now_ms)
        if isinstance(message, Load):
            if self.standing.head is not None:
                self.standing.head.on_load(node, message, self.now_ms)
        elif not self.standing.on_message(node, message, self.now_ms) and self.standing.may_act():
            self.exchange.on_message(node, message)

    # --- what its standing has done ---

    def send(self, node: bytes, message: messages.Message) -> None:
        if node in self._up:
            self.network.send(self.name, node, message)

    def send_all(self, nodes: list[bytes], message: messages.Message) -> None:
        for node in nodes:
            self.send(node, message)

    def linked(self) -> list[bytes]:
        return sorted(self._up)

    def silent_ms(self, node: bytes) -> int | None:
        return (self.world.now_us - self._heard_us[node]) // 1000 if node in self._up else None

    def want_link(self, node: bytes) -> None:
        standing: Standing | None = getattr(self, "standing", None)
        if standing is None or node in self._up or node in self.dead:
            return
        if standing.is_fenced and not any(other.name == node and other.is_head for other in self._all()):
            return
        standing.needs_link(node)
        if not self.network.is_present(node):
            place = next((other for other in self._all() if other.name == node), None)
            while place is not None and place.successor is not None:
                place = place.successor
            if not self._may_reach(place):
                return
            if place is not None and place.name != node and place.alive:
                self.world.after(REFUSED_US, partial(self._replaced, node, place.name))
            elif place is None or place.refuses:
                self.world.after(REFUSED_US, partial(self._refused, node))
            return
        if self.world.now_us - self._down_us.get(node, -SHORT_LIVED_US) < SHORT_LIVED_US:
            self.world.after(SHORT_LIVED_US, lambda: self.network.want_link(self.name, node))
        else:
            self.network.want_link(self.name, node)

    def _may_reach(self, place: "Citizen | None") -> bool:
        return place is None or not self.network.is_cut(self.name, place.name)

    def _refused(self, node: bytes) -> None:
        if self.alive and not self.is_stopped:
            self._do(self.standing.on_refused, node, self.now_ms)

    def _replaced(self, node: bytes, by: bytes) -> None:
        if self.alive and not self.is_stopped:
            self._do(self.standing.on_replaced, node, by, self.now_ms)
            self.want_link(by)

    def close_link(self, node: bytes, reason: str) -> None:
        self.network.close(self.name, node)

    def go_around(self, node: bytes, ways: list[bytes]) -> None:
        if not ways:
            self.network.link_anew(self.name, node)
            return
        for way in ways:
            if self.network.link_around(self.name, node, way):
                self._around.add(node)
                return

    def learn(self, node: bytes, address: str) -> None:
        return

    def address(self, node: bytes) -> str:
        return node.decode()

    def on_view(self, view: View) -> None:
        self.exchange.peers.want_links()

    def bury(self, node: bytes, reason: str) -> None:
        self.on_buried(self, node)
        self.world.tell(lambda: f"{self.name!r}: {node!r} is dead: {reason}")
        self.dead.append(node)
        self.network.close(self.name, node)
        self._bury(node)

    def _bury(self, node: bytes) -> None:
        self._keep(list(self.exchange.on_death(node)))  # type: ignore[arg-type]

    def _keep(self, kept: list[ModelObjectID]) -> None:
        self._kept.append(kept)
        self.world.after(GRACE_US, kept.clear)

    def fence(self, reason: str) -> None:
        self.world.tell(lambda: f"{self.name!r}: fences itself: {reason}")
        self.on_fenced(self)
        self._close_links()

    def resume(self) -> None:
        self.world.tell(lambda: f"{self.name!r}: resumes")
        self._close_links()
        self.exchange.peers.want_links()

    def _close_links(self) -> None:
        for node in sorted(self._up):
            self.network.close(self.name, node)

    def rejoin(self) -> None:
        self.world.tell(lambda: f"{self.name!r}: is over, and joins again")
        self._keep(list(self.exchange.end_incarnation(bytes.hex)))  # type: ignore[arg-type]
        self.network.leave(self.name)
        self._up.clear()
        self._around.clear()
        self.world.after(self.world.random.randrange(1_000, 50_000), self._join_again)

    def _join_again(self) -> None:
        if not self.alive:
            return
        self.incarnations += 1
        self.name = self.first_name + str(self.incarnations).encode()
        self.dead.clear()
        self.exchange = self._make_exchange()
        self.standing = self._make_standing()
        self.network.join(self.name, self)
        self._news_soon()

    def _on_store(self, is_up: bool) -> None:
        if self.standing.head is not None and self.alive:
            self.standing.head.authority.store_changed(is_up, self.now_ms)

    # --- programs ---

    def _take_news(self) -> None:
        if self.is_stopped:
            return
        self.standing.may_act()
        super()._take_news()

    def _send_tasks(self) -> None:
        if not self.is_stopped and self.standing.may_act():
            super()._send_tasks()
