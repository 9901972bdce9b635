"""Values that this node wants of others: whom it has asked, and what comes.

An owner is asked, or who has the value stored for it; who has none says where to ask instead (`Elsewhere`).
What can't be had is asked for again with the next tick, of its owner.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from ray import _kernel
from ray.node.cluster.ids import THIS_NODE, around, as_owned
from ray.node.cluster.loans import Loans
from ray.node.cluster.orphans import Orphans
from ray.node.cluster.peers import Peer, Peers
from ray.wire import messages


class Transfers(Protocol):
    def pull(
        self,
        source: bytes,
        value: messages.Result,
        oid: _kernel.ObjectID,
        nested: list[_kernel.ObjectID],
    ) -> None:
        """Brings a large value here and calls `WantedValues.on_pulled`. Returns at once."""


class WantedValues:
    def __init__(
        self, arena: _kernel.Arena, peers: Peers, loans: Loans, orphans: Orphans, transfers: Transfers
    ) -> None:
        self.arena = arena
        self.peers = peers
        self.loans = loans
        self.orphans = orphans
        self.transfers = transfers
        # A value is wanted, and stored at that node, with so many bytes: sends tasks that wait for it there,
        # and says whether any went.
        self.on_located: Callable[[_kernel.ObjectID, bytes, int], bool] = lambda oid, node, size_bytes: False
        self._asked: dict[bytes, tuple[int, int]] = {}  # for which ids, also on their way: owner, and who
        self._named: dict[bytes, list[bytes]] = {}  # by wanted id: the sources that were named to this node
        self._again: dict[bytes, None] = {}  # wanted ids, to be asked for when the next tick comes

    # --- asking ---

    def want(self, raw: bytes, owner: int, holder: int) -> None:
        holder = self.orphans.holder(raw, holder)
        if raw not in self._asked and holder in self.peers.by_number:
            self._asked[raw] = (owner, holder)
            self.peers.send(holder, messages.Want([raw]))

    def on_wanted(self, oid: _kernel.ObjectID) -> None:
        """Something here waits for it (`NEWS_WANTED`)."""
        owner = self.arena.owner(oid)
        location = self.arena.location(oid)
        if location is not None and location[0] in self.peers.by_number:
            went = self.on_located(oid, self.peers.by_number[location[0]].node, location[1])
            if went and not self.arena.is_wanted(oid):  # nothing waits for it here any more
                return
        holder = None if location is None else location[0]
        self.want(self._name_at(oid, holder), owner, owner if holder is None else holder)

    def take_over(self, raw: bytes, oid: _kernel.ObjectID, node: bytes) -> bool:
        """Asks for a value that `node`, which leaves, owns or has stored for this one, if it is not on its
        way. Whether there is, or may come, something to take."""
        peer = self.peers.by_node.get(node)
        if peer is None or self.arena.is_ready(oid):
            return False
        owner, location = self.arena.owner(oid), self.arena.location(oid)
        holder = location[0] if location is not None else owner
        if peer.number not in (owner, holder):
            return owner == THIS_NODE  # whose result may be told of later
        self.want(raw, owner, holder)
        return True

    def want_anew(self, raw: bytes, owner: int) -> None:
        """Of its owner, or of whoever is asked instead of a dead one."""
        self._asked.pop(raw, None)
        self.want(raw, owner, owner)

    def _want_where_it_is(self, raw: bytes, owner: int) -> None:
        """Of its owner; what is this node's own, where it is now."""
        oid = self.arena.foreign((as_owned(raw), owner))
        if not self.arena.is_ready(oid):
            location = self.arena.location(oid)
            holder = None if location is None else location[0]
            self.want(self._name_at(oid, holder), owner, owner if holder is None else holder)

    def _name_at(self, oid: _kernel.ObjectID, holder: int | None) -> bytes:
        """What that peer, if it has it stored, knows it by."""
        raw = oid.binary()
        return around(raw) if holder is not None and holder == self.arena.owner(oid) else raw

    # --- answers ---

    def on_values(self, peer: Peer, message: messages.Values) -> None:
        for value in message.values:
            held = self._hold_nested(peer, value)
            wanted = self._asked.get(value.id)
            if wanted is None:  # it has come another way, or nobody wants it any more
                continue
            owner, _ = wanted
            if value.format == _kernel.FORMAT_SYSTEM and owner != peer.number:
                # Failures are kept by owners: it is not there any more, since the owner has it by now; or is
                # dead, and that one has nothing of it.
                self.orphans.refused(value.id, owner, peer.number)
                self._again[value.id] = None
                continue
            oid = self.arena.foreign((as_owned(value.id), owner))
            if value.data is None:
                self._named[value.id] = value.sources
                self.transfers.pull(peer.node, value, oid, held)
            else:
                self._arrived(oid, value.format, value.data, held)

    def take(self, peer: Peer, value: messages.Result, oid: _kernel.ObjectID) -> None:
        """It has come unasked."""
        held = self._hold_nested(peer, value)
        if value.data is not None:
            self._arrived(oid, value.format, value.data, held)

    def _hold_nested(self, peer: Peer, value: messages.Result) -> list[_kernel.ObjectID]:
        nested = [self.peers.ref(ref, peer) for ref in value.nested]
        held = [self.arena.foreign(ref) for ref in nested]
        self.arena.note(peer.number, nested)
        self.loans.came_from(peer.number, nested)
        return held

    def on_pulled(
        self,
        value: messages.Result,
        oid: _kernel.ObjectID,
        nested: list[_kernel.ObjectID],
        block: _kernel.Block | None,
    ) -> None:
        """`block` None: it could not be had there; its owner is asked anew."""
        if block is not None:
            _, holder = self._asked.get(value.id, (THIS_NODE, THIS_NODE))
            self._arrived(oid, value.format, block, nested)
            self.peers.send(holder, messages.Have([value.id]))
            return
        self._named.pop(value.id, None)
        wanted = self._asked.pop(value.id, None)
        if wanted is not None:
            self._want_where_it_is(value.id, wanted[0])

    def _arrived(
        self, oid: _kernel.ObjectID, fmt: int, data: bytes | _kernel.Block, nested: list[_kernel.ObjectID]
    ) -> None:
        location = self.arena.location(oid)
        raw = self._name_at(oid, None if location is None else location[0])
        self.forget(raw)
        self.arena.seal(oid, data, fmt, nested)
        if location is not None:
            self.peers.give_back(location[0], [(raw, 1)])

    def on_elsewhere(self, peer: Peer, message: messages.Elsewhere) -> None:
        for raw, node in message.places:
            if raw not in self._asked:
                continue
            if node == self.peers.node or node in self.peers.dead:  # the peer has not heard that yet
                self.orphans.refused(raw, self._asked[raw][0], peer.number)
                self._again[raw] = None
            else:
                owner, _ = self._asked.pop(raw)
                self.want(raw, owner, self.peers.of(node).number)

    def forget(self, raw: bytes) -> None:
        """It is here, or nobody wants it any more."""
        self._asked.pop(raw, None)
        self._named.pop(raw, None)

    # --- what happens to nodes, and time ---

    def synced(self, peer: Peer) -> None:
        """There is a new link: what it was asked over the last one may be lost, or it may have let it go."""
        asked = [(raw, owner) for raw, (owner, holder) in self._asked.items() if holder == peer.number]
        for raw, owner in asked:
            del self._asked[raw]
            if owner in self.peers.by_number and owner != peer.number:
                self.want(raw, owner, owner)

    def unlinked(self, number: int) -> None:
        for raw, (owner, holder) in self._asked.items():
            if holder == number and self.orphans.holds(owner, raw):  # another may have a copy as well
                self._again[raw] = None

    def ask_others(self, dead: Peer) -> None:
        """What it was asked for, or another about something that it owned."""
        for raw, (owner, holder) in list(self._asked.items()):
            if dead.number in (owner, holder):
                del self._asked[raw]
                self.want(raw, owner, owner)  # if that is another, it had told to ask the dead one

    def buried(self, dead: Peer) -> None:
        for raw in [raw for raw in self._asked if self.is_here(raw)]:  # has failed with it
            del self._asked[raw]
        self._named = {raw: sources for raw, sources in self._named.items() if raw in self._asked}
        self.ask_others(dead)

    def asked_of(self, owner: int) -> list[bytes]:
        """Ids that it owns, whoever was asked."""
        return [raw for raw, (number, _) in self._asked.items() if number == owner]

    def named_sources(self, ids: Iterable[bytes]) -> list[bytes]:
        """Nodes that are said to have some of these."""
        return [node for raw in ids for node in self._named.get(raw, ())]

    def is_here(self, raw: bytes) -> bool:
        return self.arena.is_ready(self.arena.foreign((raw, THIS_NODE)))

    @property
    def is_to_tick(self) -> bool:
        return bool(self._again)

    def tick(self) -> None:
        """Values are asked for that could not be had."""
        again, self._again = self._again, {}
        for raw in again:
            wanted = self._asked.pop(raw, None)
            if wanted is not None:
                self._want_where_it_is(raw, wanted[0])
