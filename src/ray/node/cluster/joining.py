"""The way of a node to its head, whose address its record names, as long as there is no link."""

import asyncio
from collections.abc import Callable

from ray.errors import PeerUnreachableError, RayConnectionError
from ray.node.cluster.network import CONNECT_S, Network
from ray.node.cluster.standing import Standing
from ray.session.say import say
from ray.wire.connecting import connect
from ray.wire.messages import Hello

JOIN_RETRY_S = 0.2


class Joining:
    def __init__(
        self, address: str, network: Network, standing: Standing, hello: Callable[[], Hello]
    ) -> None:
        """`address` is the head's, as a name perhaps: it is looked up at each attempt."""
        self.address = address
        self.network = network
        self.standing = standing
        self.hello = hello
        self._attempt: asyncio.Task[None] | None = None
        self._error = ""  # the last that was said

    def go_on(self) -> None:
        """To be called several times a second, without a link to the head."""
        head = self.standing.head_node
        if head is not None and head in self.network.addresses and not self.network.is_fenced:
            self.network.want_link(head)
        elif self._attempt is None or self._attempt.done():
            self._attempt = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        network = self.network
        try:
            link = await connect(self.address, network.identity, self.hello(), CONNECT_S, network.source)
        except RayConnectionError as error:
            if isinstance(error, PeerUnreachableError) and error.refused:
                self.standing.on_head_refused()
            if str(error) != self._error:
                self._error = str(error)
                say(f"the head can't be reached, and is tried again: {error}")
            await asyncio.sleep(JOIN_RETRY_S)
            return
        self._error = ""
        network.on_link(link, network.node)

    async def close(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.gather(self._attempt, return_exceptions=True)
