"""Arenas of one process as nodes, the real exchange between them, and links that deliver when they are told
to."""

import time
from collections import deque
from collections.abc import Callable

from ray import _kernel
from ray.node.cluster.exchange import Exchange
from ray.wire import messages
from ray.wire.messages import Message
from tests.core.nodes import Network as HandNetwork
from tests.core.nodes import Node

PATIENCE_S = 20.0


class World:
    """Some nodes, all linked with each other."""

    def __init__(self, count: int, cpus: int = 2) -> None:
        hand = HandNetwork(0)
        self.members = [Member(self, Node(hand, cpus)) for _ in range(count)]
        self.by_node = {member.id: member for member in self.members}
        self.kept: list[list[_kernel.ObjectID]] = []  # what dead nodes had been lent
        self.links: dict[frozenset[bytes], dict[bytes, deque[bytes]]] = {}  # by receiver
        for i, member in enumerate(self.members):
            for other in self.members[:i]:
                self.connect(member, other)
        self.settle()

    def connect(self, a: "Member", b: "Member") -> None:
        key = frozenset((a.id, b.id))
        self.links[key] = {a.id: deque(), b.id: deque()}
        a.exchange.on_link_up(b.id)
        b.exchange.on_link_up(a.id)

    def cut(self, a: "Member", b: "Member") -> None:
        """Whatever is under way is lost."""
        del self.links[frozenset((a.id, b.id))]
        a.exchange.on_link_down(b.id)
        b.exchange.on_link_down(a.id)

    def kill(self, dead: "Member") -> None:
        """Its links break, and all others hear that it is dead."""
        for other in self.members:
            if other is not dead:
                self.links.pop(frozenset((dead.id, other.id)), None)
                other.exchange.on_link_down(dead.id)
        self.members.remove(dead)
        for other in self.members:
            self.kept.append(other.exchange.on_death(dead.id))

    def rejoin(self, member: "Member") -> None:
        """It was declared dead, and comes back as another node, with the same arena."""
        self.kill(member)
        for other in self.members:
            member.exchange.on_death(other.id).clear()
        del self.by_node[member.id]
        member.id = member.node.node_id = bytes(reversed(member.id))
        member.exchange = Exchange(member.arena, member.id, member, member, member)
        self.by_node[member.id] = member
        for other in self.members:
            self.connect(member, other)
        self.members.append(member)
        self.settle()

    def deliver(self) -> bool:
        """One message of each link and direction; False when there was none."""
        any_was = False
        for key, queues in list(self.links.items()):
            for receiver, queue in queues.items():
                if queue and key in self.links:
                    any_was = True
                    (sender,) = key - {receiver}
                    for message in messages.decode(queue.popleft()):
                        self.by_node[receiver].exchange.on_message(sender, message)
        return any_was

    def settle(self, works: bool = False) -> None:
        """Until nothing happens any more; `works`: workers take tasks meanwhile."""
        going = True
        while going:
            going = self.deliver()
            for member in self.members:
                going = member.look() or going
                if works:
                    going = member.node.work() or going

    def until(self, done: Callable[[], bool]) -> None:
        """Messages go and come until that is so."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < deadline_s
            self.settle()


class Member:
    """One node."""

    def __init__(self, world: World, node: Node) -> None:
        self.world = world
        self.node = node
        self.id = node.node_id
        self.arena = node.manager
        self.exchange = Exchange(node.manager, self.id, self, self, self)
        self.learned: list[messages.Job] = []

    def restart(self) -> None:
        """Another node manager takes over; the links of the old one are gone."""
        others = [other for other in self.world.members if other is not self]
        for other in others:
            del self.world.links[frozenset((self.id, other.id))]
            other.exchange.on_link_down(self.id)
        self.exchange = Exchange(self.arena, self.id, self, self, self)
        for other in others:
            self.world.connect(self, other)

    def look(self) -> bool:
        self.node.let_go()
        news = self.arena.news(1000, 0)
        self.exchange.on_news(news)
        asked = self.exchange.is_to_ask
        self.exchange.tick()
        return asked or any(item[0] != _kernel.NEWS_QUEUED for item in news)

    def offload(self, other: "Member", most: int = 100) -> int:
        sent = 0
        for shape, _, _, _, ready, _ in self.arena.queues():
            sent += len(self.exchange.tasks.send(other.id, shape, min(ready, most)))
        return sent

    # --- as a network ---

    def send(self, node: bytes, message: Message) -> None:
        body = bytearray()
        messages.append(message, body)
        queues = self.world.links.get(frozenset((self.id, node)))
        if queues is not None:
            queues[node].append(b"\x91" + bytes(body))  # a list of one

    def want_link(self, node: bytes) -> None:
        return

    # --- as transfers: what is asked for is there at once ---

    def pull(
        self,
        source: bytes,
        value: messages.Result,
        oid: _kernel.ObjectID,
        nested: list[_kernel.ObjectID],
    ) -> None:
        arena = self.world.by_node[source].arena
        there = arena.foreign((value.id, 0))
        data = bytes(arena.get(there, 0)[1]) if arena.is_ready(there) else b""
        if len(data) != value.size:  # it is gone, and this is the failure that says so
            self.exchange.wanted.on_pulled(value, oid, nested, None)
            return
        block = self.arena.allocate(value.size)
        block.write(0, data)
        self.exchange.wanted.on_pulled(value, oid, nested, block)

    # --- as jobs ---

    def describe(self, root: bytes) -> messages.Job:
        nodes = dict(self.arena.peers())
        homes = {each: nodes[home] for _, home, each in self.arena.guests()}
        return messages.Job(root, homes.get(root, self.id), ["/a/folder"], False)

    def ended(self) -> None:
        return

    def learn(self, number: int, job: messages.Job) -> None:
        self.learned.append(job)
