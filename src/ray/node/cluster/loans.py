"""Ids that other nodes have lent to this one, or it to them: who is asked to lend, and what is returned.

The arena counts both (`Arena.notes`, `Arena.loans`). An id may come from a node that does not own it: then
its owner is asked to lend it as well, and as soon as that one has, the other gets its own back.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator

from ray import _kernel
from ray.node.cluster.ids import THIS_NODE, Ref
from ray.node.cluster.peers import Peer, Peers
from ray.wire import messages


class Loans:
    def __init__(self, arena: _kernel.Arena, peers: Peers) -> None:
        self.arena = arena
        self.peers = peers
        self._borrowed: set[bytes] = set()  # ids that their owners have lent to this node
        self._borrowing: dict[bytes, int] = {}  # ids that came from others, whose owners are to confirm
        self._remember()

    def _remember(self) -> None:
        """What the node manager before this one has been lent, and not had confirmed."""
        for number in self.peers.by_number:
            for raw, _ in self.arena.notes(number):
                owner = self.arena.owner(self.arena.foreign((raw, THIS_NODE)))
                if owner == number:
                    self._borrowed.add(raw)
                elif owner != THIS_NODE:
                    self._borrowing[raw] = owner
        for raw in self._borrowed & self._borrowing.keys():
            del self._borrowing[raw]

    def is_own(self, raw: bytes) -> bool:
        """Of an id that is known here: it is this node's, or has become so with the death of its owner."""
        return self.arena.owner(self.arena.foreign((raw, THIS_NODE))) == THIS_NODE

    def came_from(self, sender: int, refs: Iterable[Ref]) -> None:
        """Ids that the arena has noted from this sender: if they are others', their owners are asked to
        confirm."""
        strangers: dict[int, list[bytes]] = defaultdict(list)
        confirmed = []
        own: dict[bytes, int] = defaultdict(int)
        for raw, owner in refs:
            if owner == THIS_NODE:
                continue
            if self.is_own(raw):  # the sender does not know yet that its owner is dead, and has lent it
                own[raw] += 1
            elif owner == sender:
                self._borrowed.add(raw)
            elif raw in self._borrowed:
                confirmed.append(raw)
            elif raw not in self._borrowing:
                self._borrowing[raw] = owner
                strangers[owner].append(raw)
        if own:
            self.peers.give_back(sender, list(own.items()))
        if confirmed:
            self.give_back(sender, confirmed)
        for owner, ids in strangers.items():
            self._ask_to_borrow(owner, ids)

    def ask_again(self, owner: int) -> None:
        """There is a new link: what it was asked over the last one may be lost."""
        self._ask_to_borrow(owner, self.unconfirmed(owner))

    def _ask_to_borrow(self, owner: int, ids: list[bytes]) -> None:
        if ids:
            self.peers.send(owner, messages.Borrow(ids))

    def give_back(self, sender: int, ids: list[bytes]) -> None:
        returned = self.arena.forget_notes(sender, ids)
        if returned:
            self.peers.give_back(sender, returned)

    def on_borrow(self, peer: Peer, borrow: messages.Borrow) -> None:
        # What is gone is lent as well: as a failure that says so.
        self.arena.lend(peer.number, [self.arena.foreign((raw, THIS_NODE)) for raw in borrow.ids])
        self.peers.send(peer.number, messages.Lent(borrow.ids))

    def on_lent(self, peer: Peer, lent: messages.Lent) -> None:
        self.arena.note(peer.number, [(raw, peer.number) for raw in lent.ids])
        for raw in lent.ids:
            self._borrowing.pop(raw, None)
        self._borrowed.update(lent.ids)
        for other in list(self.peers.by_number):
            if other != peer.number:
                self.give_back(other, lent.ids)

    def forget(self, raw: bytes) -> None:
        """It is gone, or this node's own now."""
        self._borrowed.discard(raw)
        self._borrowing.pop(raw, None)

    # --- of nodes that have died ---

    def unconfirmed(self, owner: int) -> list[bytes]:
        """Ids of that one, which has not said yet that it has lent them."""
        return [raw for raw, number in self._borrowing.items() if number == owner]

    def who_passed_on(self, ids: Collection[bytes]) -> Iterator[int]:
        """Who has lent one of these, without being its owner."""
        if any(raw in self._borrowing for raw in ids):
            for number in self.peers.by_number:
                if any(raw in self._borrowing and raw in ids for raw, _ in self.arena.notes(number)):
                    yield number

    def buried(self, owner: int) -> None:
        """What it owned is this node's now. Two nodes that had lent each other such an id would keep it for
        ever."""
        for number in self.peers.by_number:
            self.give_back(number, [raw for raw, _ in self.arena.notes(number) if self.is_own(raw)])
        self._borrowed = {raw for raw in self._borrowed if not self.is_own(raw)}
        self._borrowing = {raw: number for raw, number in self._borrowing.items() if number != owner}
