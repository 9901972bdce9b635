"""Checkpoints of actors that one node serves for another: told of by the server, kept by the owner.

Each comes behind the results of the calls that it covers (`NEWS_CHECKPOINT`), and is of use as soon as its
value is here. Until then the one before it stays, and what was called since is in the owner's log. The last
one of a node that leaves says so: then the owner places the actor anew. What is forgotten here with a link or
a node manager is told of again with the next link.
"""

from ray import _kernel
from ray.node.cluster.given import GivenValues
from ray.node.cluster.ids import SERVED_INDEX, THIS_NODE
from ray.node.cluster.loans import Loans
from ray.node.cluster.peers import Peer, Peers
from ray.node.cluster.wanted import WantedValues
from ray.wire import messages

Coming = tuple[int, _kernel.ObjectID, bool]  # the turn that it covers, its value, and whether it is the last


class Checkpoints:
    def __init__(
        self, arena: _kernel.Arena, peers: Peers, loans: Loans, given: GivenValues, wanted: WantedValues
    ) -> None:
        self.arena = arena
        self.peers = peers
        self.loans = loans
        self.given = given
        self.wanted = wanted
        # Of an actor, by the peer that serves it, the one whose value is on its way, and the newest after it:
        # if each newer one put an end to that, none would ever arrive.
        self._coming: dict[tuple[int, bytes], list[Coming]] = {}

    # --- the server's ---

    def tell(self, number: int, actor: bytes, turn: int, value: _kernel.ObjectID, is_last: bool) -> None:
        """To the owner, if there is a link; else it is news again with the next one."""
        peer = self.peers.by_number.get(number)
        if peer is None or not peer.synced:
            return
        if not self.arena.is_ready(value):  # it is what the actor is to begin with, and has not come yet
            return
        self.arena.lend(number, [value])
        small = self.given.value_for(number, value)
        self.peers.send(number, messages.Checkpoint(actor, turn, value.binary(), small, is_last))

    # --- the owner's ---

    def on_told(self, peer: Peer, told: messages.Checkpoint) -> None:
        value = self.arena.foreign((told.value, peer.number))
        self.arena.note(peer.number, [(told.value, peer.number)])
        self.loans.came_from(peer.number, [(told.value, peer.number)])
        if told.data is not None and not self.arena.is_ready(value):
            self.wanted.take(peer, told.data, value)
        coming = self._coming.setdefault((peer.number, told.actor), [])
        del coming[1:]
        coming.append((told.turn, value, told.is_last))
        self._look(peer.number, told.actor)

    def on_sealed(self) -> None:
        """One of those that were on their way may have arrived."""
        for number, actor in list(self._coming):
            self._look(number, actor)

    def unlinked(self, number: int) -> None:
        """What has arrived is of use; the rest is told of again, or lost."""
        for key in [key for key in self._coming if key[0] == number]:
            self._look(*key)
            self._coming.pop(key, None)

    def _look(self, number: int, actor: bytes) -> None:
        coming = self._coming[number, actor]
        while coming and self.arena.is_ready(coming[0][1]):
            turn, value, is_last = coming.pop(0)
            if not self._take(number, actor, turn, value):
                coming.clear()
            elif is_last:
                self._served_no_more(number, actor)
        if not coming:
            del self._coming[number, actor]
        elif self.arena.subscribe(coming[0][1]):  # news when it is here
            self.wanted.want(coming[0][1].binary(), number, number)

    def _take(self, number: int, actor: bytes, turn: int, value: _kernel.ObjectID) -> bool:
        """False: what the peer has told of is no actor. It may have come long ago, and what is news now is
        not to be lost for it."""
        try:
            taken = self.arena.take_checkpoint(number, self.arena.foreign((actor, THIS_NODE)), turn, value)
        except _kernel.ArenaClosed:
            raise
        except _kernel.KernelError:
            return False
        if taken:
            raw = value.binary()  # this node's own now
            self.loans.forget(raw)
            self.loans.give_back(number, [raw])
        return True

    def _served_no_more(self, number: int, actor: bytes) -> None:
        """It is placed anew, and the peer need not keep anything of it."""
        self.arena.reclaim_actor(number, self.arena.foreign((actor, THIS_NODE)))
        self.peers.give_back(number, [(actor[: -len(SERVED_INDEX)] + SERVED_INDEX, 1)])
