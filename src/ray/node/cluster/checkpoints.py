"""Checkpoints of actors that one node serves for another: told of by the server, kept by the owner.

Each comes behind the results of the calls that it covers (`NEWS_CHECKPOINT`), and is of use as soon as its
value is here. Until then the one before it stays, and what was called since is in the owner's log. The last
one of a node that leaves says so: then the owner places the actor anew. What is forgotten here with a link or
a node manager is told of again with the next link.
"""

from typing import TYPE_CHECKING

from ray import _kernel
from ray.wire import messages

if TYPE_CHECKING:
    from ray.node.cluster.exchange import Exchange, Peer

Coming = tuple[int, _kernel.ObjectID, bool]  # the turn that it covers, its value, and whether it is the last


class Checkpoints:
    """Of one exchange, which each method is given: it would be kept alive by one that refers to it."""

    def __init__(self) -> None:
        # Of an actor, by the peer that serves it, the one whose value is on its way, and the newest after it:
        # if each newer one put an end to that, none would ever arrive.
        self._coming: dict[tuple[int, bytes], list[Coming]] = {}

    # --- the server's ---

    @staticmethod
    def tell(
        exchange: "Exchange", number: int, actor: bytes, turn: int, value: _kernel.ObjectID, is_last: bool
    ) -> None:
        """To the owner, if there is a link; else it is news again with the next one."""
        peer = exchange.peers.get(number)
        if peer is None or not peer.synced:
            return
        exchange.arena.lend(number, [value])
        small = exchange.small_value(number, value)
        exchange.send_to(peer, messages.Checkpoint(actor, turn, value.binary(), small, is_last))

    # --- the owner's ---

    def on_told(self, exchange: "Exchange", peer: "Peer", told: messages.Checkpoint) -> None:
        value = exchange.noted(peer, told.value)
        if told.data is not None and not exchange.arena.is_ready(value):
            exchange.take_value(peer, told.data, value)
        coming = self._coming.setdefault((peer.number, told.actor), [])
        del coming[1:]
        coming.append((told.turn, value, told.is_last))
        self._look(exchange, peer.number, told.actor)

    def on_sealed(self, exchange: "Exchange") -> None:
        """One of those that were on their way may have arrived."""
        for number, actor in list(self._coming):
            self._look(exchange, number, actor)

    def on_link_down(self, exchange: "Exchange", number: int) -> None:
        """What has arrived is of use; the rest is told of again, or lost."""
        for key in [key for key in self._coming if key[0] == number]:
            self._look(exchange, *key)
            self._coming.pop(key, None)

    def _look(self, exchange: "Exchange", number: int, actor: bytes) -> None:
        coming = self._coming[number, actor]
        while coming and exchange.arena.is_ready(coming[0][1]):
            turn, value, is_last = coming.pop(0)
            if exchange.arena.take_checkpoint(number, exchange.arena.foreign((actor, 0)), turn, value):
                exchange.is_own_now(number, value)
            if is_last:
                exchange.served_no_more(number, actor)
        if coming:
            exchange.want(coming[0][1], number)
        else:
            del self._coming[number, actor]
