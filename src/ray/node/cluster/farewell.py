"""A node's leaving in good order, its own and others': who asks for it, what is said about it, and the end.

What is in the way of it, and what others take over, is the matter of `ray.node.cluster.draining`.
"""

import asyncio
import time
from collections.abc import Callable

from ray import _kernel
from ray.node.cluster.draining import Departure, Takeover
from ray.node.cluster.exchange import Exchange
from ray.node.cluster.network import Network
from ray.node.cluster.operators import Operators
from ray.node.cluster.standing import Standing
from ray.wire.messages import Drain, Leaving, Message, Offer, Taken

GOODBYE_S = 1.0  # for the head to hear that this node has left


class Farewell:
    def __init__(
        self,
        arena: _kernel.Arena,
        exchange: Exchange,
        network: Network,
        standing: Standing,
        by_ms: int | None,
        stir: Callable[[], None],
    ) -> None:
        """`by_ms` stands in the record if a node manager before this one has begun. `stir` is called when the
        next look should come soon."""
        self.network = network
        self.standing = standing
        self.stir = stir
        self.has_left = False  # in good order: the node is to end
        self.departure = Departure(
            arena, exchange, network.send, self._leave, by_ms, has_no_head=standing.has_no_head
        )
        self.takeover = Takeover(exchange, network.send)
        head = standing.head
        self.operators = Operators(self._on_order, lambda: head.view() if head is not None else None)
        self._says_goodbye = False

    @property
    def is_under_way(self) -> bool:
        """Of this node, or of one of which it takes something over."""
        return self.departure.is_under_way or self.takeover.is_under_way

    def begin(self, timeout_ms: int) -> None:
        """This node is to leave within so much time. A head stays."""
        if self.standing.head is None:
            self.departure.begin(timeout_ms, _now_ms())
            self.stir()

    def _on_order(self, drain: Drain) -> None:
        """From an operator."""
        if drain.node_id == self.network.node:
            self.begin(drain.timeout_ms)
        else:
            self.network.send(drain.node_id, drain)

    def on_message(self, node: bytes, message: Message) -> None:
        self.stir()
        if isinstance(message, Drain):
            if node == self.standing.head_node and message.node_id == self.network.node:
                self.begin(message.timeout_ms)
        elif isinstance(message, Offer):
            self.takeover.on_offer(node, message)
        elif isinstance(message, Taken):
            self.departure.on_taken(node, message)
        elif self.standing.head is not None:
            self.standing.head.on_leaving(node, _now_ms())

    def on_link_down(self, node: bytes) -> None:
        self.departure.on_link_down(node)
        self.takeover.on_link_down(node)
        if self._says_goodbye and node == self.standing.head_node:
            self.has_left = True

    def on_declared_dead(self) -> bool:
        """Whether that is the head's answer to its goodbye."""
        if self._says_goodbye:
            self._end()
        return self._says_goodbye

    def tick(self, now_ms: int) -> None:
        """To be called several times a second."""
        self.takeover.tick()
        self.departure.tick(now_ms)

    def _leave(self) -> None:
        """Nothing here is needed any more, or the time is over."""
        head = self.standing.head_node
        if head is None or not self.network.is_linked(head):
            self._end()
            return
        self._says_goodbye = True
        self.network.send(head, Leaving())
        asyncio.get_running_loop().call_later(GOODBYE_S, self._end)

    def _end(self) -> None:
        self.has_left = True
        self.stir()


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
