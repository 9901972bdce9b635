"""The links of a node manager to others: one for each node, brought up when there is something to say.

Two nodes that connect to each other at the same moment have two connections for a while. Both keep the one
that the node with the lower id has made.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from ray.errors import RayConnectionError
from ray.wire.connecting import connect
from ray.wire.identity import Identity
from ray.wire.link import End, EndKind, Link
from ray.wire.messages import Hello, Message

FIRST_RETRY_S, LAST_RETRY_S = 0.1, 2.0


class Events(Protocol):
    def on_link_up(self, node: bytes, hello: Hello) -> None: ...

    def on_link_down(self, node: bytes, end: End) -> None: ...

    def on_messages(self, node: bytes, messages: list[Message]) -> None: ...

    def on_no_link(self, node: bytes, error: RayConnectionError) -> None:
        """An attempt to connect has failed; another follows as long as the node is known."""


class Network:
    """Used on the event loop's thread only."""

    def __init__(self, identity: Identity, node: bytes, hello: Callable[[], Hello], events: Events) -> None:
        self.identity = identity
        self.node = node
        self.hello = hello
        self.events = events
        self.addresses: dict[bytes, str] = {}
        self._links: dict[bytes, tuple[Link, bytes]] = {}  # with the node that has made it
        self._connecting: dict[bytes, asyncio.Task[None]] = {}

    def learn(self, node: bytes, address: str) -> None:
        """Where a node listens."""
        self.addresses[node] = address

    def forget(self, node: bytes, reason: str) -> None:
        """It is no member any more: its link ends, and none is made again."""
        self.addresses.pop(node, None)
        connecting = self._connecting.pop(node, None)
        if connecting is not None:
            connecting.cancel()
        if node in self._links:
            self._links[node][0].close(reason)

    def is_linked(self, node: bytes) -> bool:
        return node in self._links

    def silent_s(self, node: bytes) -> float:
        """How long nothing has come over the link to that node."""
        return asyncio.get_running_loop().time() - self._links[node][0].last_received

    def send(self, node: bytes, message: Message) -> None:
        """Queues it; without a link it is lost."""
        if node in self._links:
            self._links[node][0].send(message)

    def want_link(self, node: bytes) -> None:
        if node in self._links or node in self._connecting or node not in self.addresses:
            return
        self._connecting[node] = asyncio.get_running_loop().create_task(self._connect(node))

    def on_link(self, link: Link, maker: bytes | None = None) -> None:
        """A link is there, made by this node or, `maker` None, by the other side."""
        node = link.peer.node_id
        maker = maker or node
        if node == self.node:
            link.close("this is the same node")
            return
        if node in self._links:
            old, old_maker = self._links[node]
            if maker != old_maker and maker != min(self.node, node):
                link.close("there is a link already")
                return
            del self._links[node]
            old.close("there is a newer link")
            self.events.on_link_down(node, End(EndKind.OURS, "there is a newer link"))
        if link.peer.address:
            self.addresses[node] = link.peer.address
        self._links[node] = (link, maker)
        link.begin(self._on_messages, self._on_closed)
        self.events.on_link_up(node, link.peer)

    async def close(self, reason: str) -> None:
        """Ends all links, in good order as far as the other sides read."""
        for task in self._connecting.values():
            task.cancel()
        await asyncio.gather(*self._connecting.values(), return_exceptions=True)
        for link, _ in self._links.values():
            link.close(reason)

    def _on_messages(self, link: Link, messages: list[Message]) -> None:
        node = link.peer.node_id
        if node in self._links and self._links[node][0] is link:
            self.events.on_messages(node, messages)

    def _on_closed(self, link: Link, end: End) -> None:
        node = link.peer.node_id
        if node in self._links and self._links[node][0] is link:
            del self._links[node]
            self.events.on_link_down(node, end)

    async def _connect(self, node: bytes) -> None:
        retry_s = FIRST_RETRY_S
        try:
            while node in self.addresses and node not in self._links:
                try:
                    link = await connect(self.addresses[node], self.identity, self.hello())
                except RayConnectionError as error:
                    self.events.on_no_link(node, error)
                    await asyncio.sleep(retry_s)
                    retry_s = min(2 * retry_s, LAST_RETRY_S)
                    continue
                if link.peer.node_id != node:  # another incarnation listens there now
                    self.addresses.pop(node, None)
                self.on_link(link, self.node)
        finally:
            self._connecting.pop(node, None)
