"""What becomes of the ids of a node that has died.

It is buried in the arena at once if all that it owned, and this node knows, has its value here. Else others
are asked for copies first: whom, and for how long, says `Orphans`.
"""

from collections.abc import Callable, Collection, Iterable

from ray import _kernel
from ray.node.cluster.given import GivenValues
from ray.node.cluster.ids import FIRST_RETURN, THIS_NODE
from ray.node.cluster.jobs import Jobs
from ray.node.cluster.loans import Loans
from ray.node.cluster.orphans import MOST_IDS, MOST_NODES, Orphans
from ray.node.cluster.peers import Peer, Peers
from ray.node.cluster.wanted import WantedValues
from ray.serialization.failures import lost_object
from ray.wire import messages


class Burials:
    def __init__(
        self,
        arena: _kernel.Arena,
        peers: Peers,
        loans: Loans,
        given: GivenValues,
        wanted: WantedValues,
        jobs: Jobs,
        orphans: Orphans,
    ) -> None:
        self.arena = arena
        self.peers = peers
        self.loans = loans
        self.given = given
        self.wanted = wanted
        self.jobs = jobs
        self.orphans = orphans
        # Who else may have copies of what they owned.
        self.members: Callable[[], Iterable[bytes]] = lambda: ()

    def begin(self, dead: Peer, may_wait: bool) -> None:
        self.orphans.gone(dead.number)
        orphans = self._without_value(dead)
        others = self._may_have(orphans, dead) if orphans and may_wait else []
        if others:
            self.orphans.add(dead.number, dead.node, orphans, others)
            self.wanted.ask_others(dead)
        else:
            for raw, oid in orphans.items():
                self._lose(dead.node, raw, oid)
            self._bury(dead)
        self._look()

    def end(self) -> None:
        """Nothing more is waited for."""
        for number in self.orphans.end():
            self._bury(self.peers.by_number[number])

    def synced(self, peer: Peer) -> None:
        self.orphans.synced(peer.number)
        self._look()

    def tick(self) -> None:
        self.orphans.tick(self.wanted.is_here)
        self._look()

    def _without_value(self, dead: Peer) -> dict[bytes, _kernel.ObjectID]:
        """What it owned, is referred to here, and has no value; first what is waited for."""
        waited = self.wanted.asked_of(dead.number)
        borrowing = self.loans.unconfirmed(dead.number)
        noted = [raw for raw, _ in self.arena.notes(dead.number)]
        tasks = set(self.arena.received(dead.number))  # whose results will come, or nobody needs any more
        found: dict[bytes, _kernel.ObjectID] = {}
        for raw in dict.fromkeys((*waited, *borrowing, *noted)):
            if raw[: -len(FIRST_RETURN)] in tasks:
                continue
            oid = self.arena.foreign((raw, THIS_NODE))
            if not self.arena.is_ready(oid) and self.arena.owner(oid) == dead.number:
                found[raw] = oid
                if len(found) == MOST_IDS:
                    break
        return found

    def _may_have(self, ids: Collection[bytes], dead: Peer) -> list[int]:
        """Copies of some of these: first who has passed one on or was named as a source, then the linked."""
        living = self.peers.by_node
        named = (living[node].number for node in self.wanted.named_sources(ids) if node in living)
        first = (*self.loans.who_passed_on(ids), *named)
        linked = [peer.number for peer in living.values() if peer.synced]
        order = dict.fromkeys((*first, *linked, *(peer.number for peer in living.values())))
        order.pop(dead.number, None)
        found = [number for number in order if self.peers.by_number[number].node not in self.peers.dead]
        for node in self.members():
            if len(found) >= MOST_NODES:
                break
            if node not in living and node != self.peers.node and node not in self.peers.dead:
                found.append(self.peers.of(node).number)
        return found[:MOST_NODES]

    def _look(self) -> None:
        """Whom to ask has changed, or what is known."""
        for number, owner, ids in self.orphans.questions():
            self.peers.send(number, messages.AskCopies(owner, ids))
        for owner, raw, oid in self.orphans.lost():
            self._lose(owner, raw, oid)
        for number in self.orphans.over():
            self._bury(self.peers.by_number[number])

    def _lose(self, owner: bytes, raw: bytes, oid: _kernel.ObjectID) -> None:
        """Nobody has a value of what that dead node owned."""
        self.wanted.forget(raw)
        self.arena.seal(oid, lost_object(raw, self.peers.dead[owner]), _kernel.FORMAT_SYSTEM, [])

    def on_ask_copies(self, peer: Peer, question: messages.AskCopies) -> None:
        """Whoever asks has heard of the death; this node may not have, or may look for the same."""
        oids = [self.arena.foreign((raw, THIS_NODE)) for raw in question.ids]  # what is gone is a failure
        known = [(oid, self.arena.described(oid)) for oid in oids]  # what is spilled stays so
        here = [oid for oid, value in known if value is not None and value[0] != _kernel.FORMAT_SYSTEM]
        self.arena.lend(peer.number, here)
        self.peers.send(peer.number, messages.Copies(question.owner, [oid.binary() for oid in here]))

    def on_copies(self, peer: Peer, copies: messages.Copies) -> None:
        owner = self.orphans.number(copies.owner)
        needed = [raw for raw in copies.ids if owner is not None and self.orphans.holds(owner, raw)]
        needless = set(copies.ids).difference(needed)
        if needless:
            self.peers.give_back(peer.number, [(raw, 1) for raw in needless])
        if owner is None:
            return
        self.arena.note(peer.number, [(raw, owner) for raw in needed])
        for raw in self.orphans.answered(owner, peer.number, needed):
            self.wanted.want_anew(raw, owner)
        self._look()

    def _bury(self, dead: Peer) -> None:
        self.given.buried(dead.number)
        del self.peers.by_number[dead.number]
        self.jobs.bury(dead)
        self.loans.buried(dead.number)
        self.wanted.buried(dead)
