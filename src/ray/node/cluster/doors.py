"""Where others reach this node: one port, at which each says what it comes for."""

import socket
from collections.abc import Callable

from ray import _kernel
from ray.node.cluster.network import Network
from ray.node.cluster.transfers import resolver
from ray.session.say import say
from ray.wire.bulk import BulkServer
from ray.wire.identity import BULK, LINK, REDIS, RELAY
from ray.wire.link import Link, LinkHost
from ray.wire.listener import Listener
from ray.wire.pipe import PipeHost
from ray.wire.relay import RelayHost


class Doors:
    def __init__(
        self,
        arena: _kernel.Arena,
        network: Network,
        on_operator: Callable[[Link], None],
        control_store: str | None,
    ) -> None:
        """`on_operator` gets links of commands, which are no nodes. `control_store`: where the head's is, to
        which other nodes have a way through here."""
        self.network = network
        self.on_operator = on_operator
        self.links = LinkHost(network.hello, self._on_link, self._on_refused)
        self.bulk = BulkServer(resolver(arena))
        self.relay = RelayHost(network.open_to)
        purposes = {LINK: self.links.accept, BULK: self.bulk.accept, RELAY: self.relay.accept}
        self.pipe: PipeHost | None = None
        if control_store is not None:
            host, _, port = control_store.rpartition(":")
            self.pipe = PipeHost(host, int(port))
            purposes[REDIS] = self.pipe.accept
        self.listener = Listener(network.identity, purposes)

    def open(self, listening: socket.socket) -> None:
        self.listener.take_over(listening)

    def _on_link(self, link: Link) -> None:
        if link.peer.address:
            self.network.on_link(link)
        else:
            self.on_operator(link)

    def _on_refused(self, address: str, error: Exception) -> None:
        say(f"a connection from {address} was refused: {error}")

    async def close(self) -> None:
        """What came in and goes on, when the listener is closed."""
        await self.links.close()
        await self.relay.close()
        if self.pipe is not None:
            await self.pipe.close()
