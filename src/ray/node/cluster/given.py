"""Values that other nodes want of this one: told at once if small, else by whom they are to be fetched.

Of a large value that several nodes want, each is told its sources when it is its turn
(`ray.policy.cluster.transfers.Spread`).
"""

from collections import defaultdict

from ray import _kernel
from ray.node.cluster.ids import THIS_NODE
from ray.node.cluster.peers import Peer, Peers
from ray.policy.cluster.transfers import Answer, Spread
from ray.serialization.failures import with_node
from ray.wire import messages


class GivenValues:
    def __init__(self, arena: _kernel.Arena, peers: Peers) -> None:
        self.arena = arena
        self.peers = peers
        self.spread = Spread()  # large values that others have asked this node for
        self._askers: dict[bytes, set[int]] = defaultdict(set)  # peers that want what has no value yet

    def on_want(self, peer: Peer, want: messages.Want) -> None:
        values, places = [], []
        for raw in want.ids:
            oid = self.arena.foreign((raw, THIS_NODE))  # what is gone is a failure that says so
            location = self.arena.location(oid)
            if location is not None:
                places.append((raw, self.peers.by_number[location[0]].node))
            elif self.arena.is_ready(oid):
                value = self.value_for(peer.number, oid)
                if value is not None:
                    values.append(value)
                else:
                    self._share(raw, peer)
            elif (owner := self.arena.owner(oid)) != THIS_NODE:  # it was here once
                places.append((raw, self.peers.by_number[owner].node))
            elif self.arena.subscribe(oid):
                self._askers[raw].add(peer.number)
        if values:
            self.peers.send(peer.number, messages.Values(values))
        if places:
            self.peers.send(peer.number, messages.Elsewhere(places))

    def on_sealed(self, raw: bytes) -> None:
        """It has a value now."""
        for number in self._askers.pop(raw, ()):
            if number in self.peers.by_number:
                self.on_want(self.peers.by_number[number], messages.Want([raw]))

    def value_for(
        self, peer: int, oid: _kernel.ObjectID, sources: tuple[bytes, ...] = ()
    ) -> messages.Result | None:
        """None: it is large, and the peer is to be told from whom to fetch it."""
        fmt, data = self.arena.get(oid, 0)
        small = len(data) <= messages.SMALL_VALUE_BYTES
        if not small and not sources:
            return None
        nested = [self.peers.wire_ref(ref) for ref in self.arena.lend_nested(peer, oid)]
        value = with_node(fmt, data, self.peers.label) if small else None
        return messages.Result(oid.binary(), fmt, value, len(data), nested, sources=list(sources))

    # --- large ones ---

    def _share(self, raw: bytes, peer: Peer) -> None:
        """Of a large value that is here: the peer is told its sources when it is its turn."""
        for source in self.spread.sources_of(raw, peer.node):
            if source != self.peers.node:  # it asks again: the others have failed it
                self._name_sources(self.spread.lost(raw, source))
        self._name_sources([*self.spread.has(raw, self.peers.node), *self.spread.asked(raw, peer.node)])

    def _name_sources(self, answers: list[Answer]) -> None:
        for answer in answers:
            peer = self.peers.by_node.get(answer.receiver)
            oid = self.arena.foreign((answer.key, THIS_NODE))
            if peer is not None and self.arena.is_ready(oid):
                value = self.value_for(peer.number, oid, answer.sources)
                if value is not None:
                    self.peers.send(peer.number, messages.Values([value]))

    def on_have(self, peer: Peer, have: messages.Have) -> None:
        for raw in have.ids:
            if self.spread.knows(raw):  # else it is no more
                self._name_sources(self.spread.has(raw, peer.node))

    def on_return(self, peer: Peer, message: messages.Return) -> None:
        shared = [raw for raw, _ in message.counts if self.spread.knows(raw)]
        owners = [self.arena.owner(self.arena.foreign((raw, THIS_NODE))) for raw in shared]
        self.arena.take_back(peer.number, message.counts)
        for raw, owner in zip(shared, owners, strict=True):
            if owner == peer.number:  # it has the value now: others are to ask there
                self.gone(raw, owner)
                continue
            self._name_sources([*self.spread.lost(raw, peer.node), *self.spread.gave_up(raw, peer.node)])
            self.spread.forget_if_only(self.peers.node, raw)

    def gone(self, raw: bytes, owner: int) -> None:
        """It is not here any more."""
        for node in self.spread.freed(raw):
            if node in self.peers.by_node:
                place = self.peers.wire_ref((raw, owner)).owner
                self.peers.send(self.peers.by_node[node].number, messages.Elsewhere([(raw, place)]))

    # --- what happens to nodes, and time ---

    def unlinked(self, peer: Peer) -> None:
        for askers in self._askers.values():
            askers.discard(peer.number)
        self._name_sources(self.spread.gone(peer.node))
        # A copy that another node lets go of may be returned to whoever lent it, and that one be gone by now.
        self.spread.forget_idle()

    def buried(self, owner: int) -> None:
        """Nobody will tell when others let go of what it owned."""
        for raw in self.spread.keys:
            if self.arena.owner(self.arena.foreign((raw, THIS_NODE))) == owner:
                self.gone(raw, owner)

    @property
    def is_to_tick(self) -> bool:
        return self.spread.anybody_waits

    def tick(self) -> None:
        self._name_sources(self.spread.tick())
