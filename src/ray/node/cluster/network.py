"""The links of a node manager to others: one for each node, brought up when there is something to say.

Two nodes that connect to each other at the same moment have two connections for a while. Both keep the one
that the node with the lower id has made.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from ray.errors import PeerUnreachableError, RayConnectionError
from ray.wire.channel import Channel
from ray.wire.connecting import connect, open_channel
from ray.wire.identity import Identity
from ray.wire.link import End, EndKind, Link
from ray.wire.messages import Hello, Message, pack
from ray.wire.relay import through

FIRST_RETRY_S, LAST_RETRY_S = 0.1, 1.0
CONNECT_S = 3.0  # then it is tried anew: the system itself waits ever longer between two attempts
WAY_S = 1.5  # the same by way of another node
SHORT_LIVED_S = 0.5  # a link that ended sooner is not brought up at once: the other side does not want it


class Events(Protocol):
    def on_link_up(self, node: bytes, hello: Hello) -> None: ...

    def on_link_down(self, node: bytes, end: End) -> None: ...

    def on_messages(self, node: bytes, messages: list[Message]) -> None: ...

    def on_needed(self, node: bytes) -> None:
        """Attempts to connect begin."""

    def on_no_link(self, node: bytes, error: RayConnectionError) -> None:
        """An attempt to connect has failed; another follows as long as the node is known."""

    def on_replaced(self, node: bytes, by: bytes) -> None:
        """Another incarnation listens where this node did."""


class Step:
    """What is sent in one leaves together at its end, not in the loop's next turn. One begun in another is
    a part of that."""

    def __init__(self) -> None:
        self._depth = 0
        self._flushes: list[Callable[[], None]] = []  # of links

    def plan(self, flush: Callable[[], None]) -> None:
        if self._depth:
            self._flushes.append(flush)
        else:
            asyncio.get_running_loop().call_soon(flush)

    def begin(self) -> None:
        self._depth += 1

    def end(self) -> None:
        self._depth -= 1
        if self._flushes and not self._depth:
            flushes, self._flushes = self._flushes, []
            for flush in flushes:
                flush()


class Network:
    """Used on the event loop's thread only."""

    def __init__(
        self,
        identity: Identity,
        node: bytes,
        hello: Callable[[], Hello],
        events: Events,
        source: str = "",
    ) -> None:
        """`source` is the address of this machine to connect from; "": any."""
        self.source = source
        self.identity = identity
        self.node = node
        self.hello = hello
        self.events = events
        self.addresses: dict[bytes, str] = {}
        self.is_fenced = False  # links to the head only
        self._links: dict[bytes, tuple[Link, bytes]] = {}  # with the node that has made it
        self._ways: dict[bytes, bytes] = {}  # of links that go around, as this node has chosen: by whom
        self._connecting: dict[bytes, asyncio.Task[None]] = {}
        self._trying_ways: dict[bytes, asyncio.Task[None]] = {}
        self._up_since: dict[bytes, float] = {}
        self.step = Step()

    def learn(self, node: bytes, address: str) -> None:
        """Where a node listens."""
        self.addresses[node] = address

    def address(self, node: bytes) -> str:
        return self.addresses.get(node, "")

    def forget(self, node: bytes, reason: str) -> None:
        """It is no member any more: its link ends, and none is made again."""
        self.addresses.pop(node, None)
        self._up_since.pop(node, None)
        self._stop_trying(node)
        if node in self._links:
            self._links[node][0].close(reason)

    def is_linked(self, node: bytes) -> bool:
        return node in self._links

    def is_around(self, node: bytes) -> bool:
        """Whether its link goes by way of another node that this one has chosen."""
        return node in self._ways

    def linked(self) -> list[bytes]:
        return list(self._links)

    def silent_ms(self, node: bytes) -> int | None:
        """How long nothing has come over the link to that node; None: there is none."""
        if node not in self._links:
            return None
        return int(1000 * (time.monotonic() - self._links[node][0].last_received))

    def way(self, node: bytes) -> str | None:
        """The address at which this node reaches it."""
        address = self.addresses.get(node)
        by = self.addresses.get(self._ways.get(node, b""))
        return address if by is None else through(by, node)

    def send(self, node: bytes, message: Message) -> None:
        """Queues it; without a link it is lost."""
        if node in self._links:
            self._links[node][0].send(message)

    def send_all(self, nodes: list[bytes], message: Message) -> None:
        """The same to each, encoded once."""
        packed = pack(message)
        for node in nodes:
            if node in self._links:
                self._links[node][0].send(packed)

    def want_link(self, node: bytes) -> None:
        if self.is_fenced or node in self._links or node in self._connecting or node not in self.addresses:
            return
        self.events.on_needed(node)
        self._connecting[node] = asyncio.get_running_loop().create_task(self._connect(node))

    def go_around(self, node: bytes, ways: list[bytes]) -> None:
        """Tries to reach it through one of these nodes; without any, directly, though a link is there."""
        if node not in self._trying_ways and node in self.addresses:
            self._trying_ways[node] = asyncio.get_running_loop().create_task(self._try_ways(node, ways))

    async def open_to(self, node: bytes, purpose: str) -> Channel:
        """For another node, whose way to it leads through this one. Raises RayConnectionError."""
        address = self.addresses.get(node)
        if address is None or self.is_fenced:
            raise PeerUnreachableError(node.hex(), "this node does not know it")
        return await open_channel(address, self.identity, purpose, WAY_S, self.source)

    def on_link(self, link: Link, maker: bytes | None = None, way: bytes | None = None) -> None:
        """A link is there, made by this node or, `maker` None, by the other side. `way`: by whom it goes."""
        node = link.peer.node_id
        maker = maker or node
        if node == self.node:
            link.close("this is the same node")
            return
        if self.is_fenced and not link.peer.is_head:
            link.close("this node has fenced itself, as the head does not answer it")
            return
        if node in self._links:
            _, old_maker = self._links[node]
            if maker != old_maker and maker != min(self.node, node):
                link.close("there is a link already")
                return
            self._drop(node, "there is a newer link")
        if link.peer.address:
            self.addresses[node] = link.peer.address
        self._links[node] = (link, maker)
        link.plan = self.step.plan
        if way is not None:
            self._ways[node] = way
        self._up_since[node] = asyncio.get_running_loop().time()
        link.begin(self._on_messages, self._on_closed)
        self.events.on_link_up(node, link.peer)

    def close_link(self, node: bytes, reason: str) -> None:
        """`Events.on_link_down` is called before this returns."""
        if node in self._links:
            self._drop(node, reason)

    def fence(self, reason: str) -> None:
        """Ends all links; from now on there is none but to the head."""
        self.is_fenced = True
        for node in {*self._connecting, *self._trying_ways}:
            self._stop_trying(node)
        for node in self.linked():
            self._drop(node, reason)

    def resume(self, reason: str) -> None:
        """The end of it: all links, that to the head as well, begin anew."""
        self.is_fenced = False
        for node in self.linked():
            self._drop(node, reason)

    async def close(self, reason: str) -> None:
        """Ends all links, in good order as far as the other sides read."""
        trying = [*self._connecting.values(), *self._trying_ways.values()]
        for task in trying:
            task.cancel()
        await asyncio.gather(*trying, return_exceptions=True)
        for link, _ in self._links.values():
            link.close(reason)

    def _drop(self, node: bytes, reason: str) -> None:
        link, _ = self._links.pop(node)
        self._ways.pop(node, None)
        link.close(reason)
        self.events.on_link_down(node, End(EndKind.OURS, reason))

    def _stop_trying(self, node: bytes) -> None:
        for tasks in (self._connecting, self._trying_ways):
            task = tasks.pop(node, None)
            if task is not None:
                task.cancel()

    def _on_messages(self, link: Link, messages: list[Message]) -> None:
        node = link.peer.node_id
        if node in self._links and self._links[node][0] is link:
            self.events.on_messages(node, messages)

    def _on_closed(self, link: Link, end: End) -> None:
        node = link.peer.node_id
        if node in self._links and self._links[node][0] is link:
            del self._links[node]
            self._ways.pop(node, None)
            self.events.on_link_down(node, end)

    async def _connect(self, node: bytes) -> None:
        task = asyncio.current_task()
        up_since = self._up_since.get(node)
        retry_s = FIRST_RETRY_S
        if up_since is not None and asyncio.get_running_loop().time() - up_since < SHORT_LIVED_S:
            await asyncio.sleep(SHORT_LIVED_S)
        try:
            while node in self.addresses and node not in self._links:
                try:
                    link = await connect(
                        self.addresses[node], self.identity, self.hello(), CONNECT_S, self.source
                    )
                except RayConnectionError as error:
                    self.events.on_no_link(node, error)
                    await asyncio.sleep(retry_s)
                    retry_s = min(2 * retry_s, LAST_RETRY_S)
                    continue
                if link.peer.node_id != node:  # another incarnation listens there now
                    self.addresses.pop(node, None)
                self.on_link(link, self.node)
                if link.peer.node_id != node:
                    self.events.on_replaced(node, link.peer.node_id)
                elif node not in self._links:  # it was not wanted
                    await asyncio.sleep(LAST_RETRY_S)
        finally:
            if self._connecting.get(node) is task:
                del self._connecting[node]

    async def _try_ways(self, node: bytes, ways: list[bytes]) -> None:
        task = asyncio.current_task()
        try:
            for way in ways:
                by = self.addresses.get(way)  # which may be forgotten while another is tried
                if by is not None and await self._open(node, through(by, node), way):
                    return
            if not ways:
                await self._open(node, self.addresses[node], None)
        finally:
            if self._trying_ways.get(node) is task:
                del self._trying_ways[node]

    async def _open(self, node: bytes, address: str, way: bytes | None) -> bool:
        """A link to be used instead of the one that there may be; whether it came."""
        try:
            link = await connect(address, self.identity, self.hello(), WAY_S, self.source)
        except RayConnectionError:
            return False
        if link.peer.node_id != node:
            link.close("another was looked for")
            return False
        self.on_link(link, self.node, way)
        return True
