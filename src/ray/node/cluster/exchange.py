"""What node managers say to each other about tasks, ids and values: the protocol, without sockets or clock.

Events come in as calls (`on_...`); what follows are calls of the arena and messages to other nodes. The arena
holds all that must not be lost. What is kept here may be forgotten at any moment, and is made anew when a
link comes up: then both sides tell what they have of each other (`Sync`), and say nothing else before that is
done. So no message is acknowledged, and one that is lost with its link has never been sent.

Each subject has a module of its own: tasks, calls to actors and their checkpoints, jobs, ids that are lent,
values that are wanted or given, and what a dead node leaves. None of them knows the exchange, which would be
kept alive by one that refers to it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from ray import _kernel
from ray.node.cluster.burials import Burials
from ray.node.cluster.calls import ActorCalls
from ray.node.cluster.checkpoints import Checkpoints
from ray.node.cluster.given import GivenValues
from ray.node.cluster.ids import SERVED_INDEX, THIS_NODE, around
from ray.node.cluster.jobs import Guests, Jobs
from ray.node.cluster.loans import Loans
from ray.node.cluster.orphans import Orphans
from ray.node.cluster.peers import Network, Peer, Peers
from ray.node.cluster.tasks import Tasks
from ray.node.cluster.wanted import Transfers, WantedValues
from ray.serialization.failures import with_node
from ray.wire import messages
from ray.wire.messages import Message

ENTRIES_AT_ONCE = 100_000  # in one part of a Sync
GRACE_S = 15.0  # longer than a link that breaks is away


class Exchange:
    def __init__(
        self, arena: _kernel.Arena, node: bytes, network: Network, transfers: Transfers, guests: Guests
    ) -> None:
        self.arena = arena
        self.peers = peers = Peers(arena, node, network)
        self.loans = loans = Loans(arena, peers)
        self.orphans = orphans = Orphans()  # of dead nodes that are not buried yet
        self.given = given = GivenValues(arena, peers)
        self.wanted = wanted = WantedValues(arena, peers, loans, orphans, transfers)
        self.jobs = jobs = Jobs(arena, peers, guests)
        self.tasks = tasks = Tasks(arena, peers, loans, given, jobs)
        self.calls = ActorCalls(arena, peers, tasks)
        self.checkpoints = Checkpoints(arena, peers, loans, given, wanted)
        self.burials = Burials(arena, peers, loans, given, wanted, jobs, orphans)
        self._handlers: dict[type[Message], Callable[[Peer, Any], list[bytes] | None]] = {
            messages.Job: self.jobs.on_job,
            messages.Run: self.tasks.on_run,
            messages.Untaken: self.tasks.on_untaken,
            messages.Kill: self.calls.on_kill,
            messages.Killed: self.calls.on_killed,
            messages.Results: self.tasks.on_results,
            messages.Return: self.given.on_return,
            messages.Borrow: self.loans.on_borrow,
            messages.Lent: self.loans.on_lent,
            messages.Want: self.given.on_want,
            messages.Values: self.wanted.on_values,
            messages.Elsewhere: self.wanted.on_elsewhere,
            messages.Have: self.given.on_have,
            messages.Checkpoint: self.checkpoints.on_told,
            messages.AskCopies: self.burials.on_ask_copies,
            messages.Copies: self.burials.on_copies,
        }

    # --- links and deaths ---

    def on_link_up(self, node: bytes) -> None:
        if node in self.peers.dead:
            return
        peer = self.peers.of(node)
        self._forget_link(peer)
        peer.up = True
        for part in self._sync(peer):
            self.peers.network.send(node, part)
        self.loans.ask_again(peer.number)

    def on_link_down(self, node: bytes) -> None:
        peer = self.peers.by_node.get(node)
        if peer is not None:
            self._forget_link(peer)
            self.orphans.unlinked(peer.number)
            self.wanted.unlinked(peer.number)
            self.peers.network.want_link(node)  # what was lost on the way may be waited for

    def _forget_link(self, peer: Peer) -> None:
        self.checkpoints.unlinked(peer.number)
        peer.unlinked()
        self.given.unlinked(peer)

    def on_death(self, node: bytes, name: str = "") -> list[_kernel.ObjectID]:
        """It is dead for good: its tasks run again, what only it had is lost, its jobs end here. `name` is
        what users know it by.

        What it had been lent is returned: to be kept for `GRACE_S`, since it may have passed the ids on to
        others, who are about to ask for a loan of their own. The rest waits for a moment if it owned what
        this node has no value of, and another node may have: `Orphans`.
        """
        return self._on_death(node, name, True)

    def end_incarnation(self, name_of: Callable[[bytes], str]) -> list[_kernel.ObjectID]:
        """All others are dead to this node, at once. `name_of` them is as in `on_death`."""
        nodes = list(self.peers.by_node)
        kept = [oid for node in nodes for oid in self._on_death(node, name_of(node), False)]
        self.burials.end()
        return kept

    def _on_death(self, node: bytes, name: str, may_wait: bool) -> list[_kernel.ObjectID]:
        peer = self.peers.died(node, name)
        if peer is None:
            return []
        lent = [self.arena.foreign((raw, THIS_NODE)) for raw, _ in self.arena.loans(peer.number)]
        # Not the results of its own tasks: it may come back as another node, and send these again.
        kept = [oid for oid in lent if self.arena.owner(oid) != peer.number]
        lent.clear()
        self._forget_link(peer)
        self.burials.begin(peer, may_wait)
        return kept

    # --- messages ---

    def on_message(self, node: bytes, message: Message) -> list[bytes]:
        """The ids of this node's tasks whose end it tells."""
        peer = self.peers.by_node.get(node)
        if peer is None:
            if node in self.peers.dead:
                return []
            peer = self.peers.of(node)
        handler = self._handlers.get(type(message))
        if handler is not None and peer.synced:
            return handler(peer, message) or []
        if isinstance(message, messages.Sync):
            self._on_sync(peer, message)
        return []

    def _sync(self, peer: Peer) -> Iterator[messages.Sync]:
        noted, tasks = self.arena.notes(peer.number), self.arena.received(peer.number)
        for start in range(0, max(len(noted), len(tasks)), ENTRIES_AT_ONCE):
            part = slice(start, start + ENTRIES_AT_ONCE)
            yield messages.Sync(noted[part], tasks[part], [], False)
        yield messages.Sync([], [], [root for _, root in self.arena.drivers()], True)

    def _on_sync(self, peer: Peer, sync: messages.Sync) -> None:
        if peer.synced:
            return
        peer.heard.append(sync)
        if not sync.last:
            return
        arena, number, parts = self.arena, peer.number, peer.heard
        arena.match_loans(number, [entry for part in parts for entry in part.noted])
        there = {task for part in parts for task in part.tasks}
        arena.recall(number, [task for task in arena.away(number) if task not in there])
        # Of an actor that nothing here refers to any more, the creation is there, and not away: it was
        # returned, and that may have been lost. Of other tasks nobody has such an id.
        gone = there.difference(arena.away(number))
        self.peers.give_back(number, [(task + SERVED_INDEX, 1) for task in gone])
        self.jobs.synced(peer, {root for part in parts for root in part.jobs})
        peer.heard = []
        peer.synced = True
        waiting, peer.waiting = peer.waiting, []
        for message in waiting:
            self.peers.network.send(peer.node, message)
        self.wanted.synced(peer)
        self.burials.synced(peer)
        arena.renew_news(number)

    # --- time ---

    @property
    def is_to_ask(self) -> bool:
        """Whether the next tick does anything."""
        returns = any(peer.returns or peer.copied for peer in self.peers.by_number.values())
        return self.wanted.is_to_tick or returns or self.given.is_to_tick or bool(self.orphans)

    def tick(self) -> None:
        """Several times a second: values are asked for that could not be had; what is returned is said."""
        for peer in list(self.peers.by_number.values()):
            self.peers.return_copies(peer)
            self.peers.send_returns(peer)
        self.given.tick()
        self.wanted.tick()
        self.burials.tick()

    # --- news of the arena ---

    def on_news(self, news: "list[_kernel.News]") -> None:
        wire_ref = self.peers.wire_ref
        results: dict[int, list[messages.Result]] = defaultdict(list)
        returns: dict[int, list[tuple[bytes, int]]] = defaultdict(list)
        calls: list[tuple[_kernel.ObjectID, int, bytes | None]] = []
        checkpoints: list[tuple[int, bytes, int, _kernel.ObjectID, bool]] = []
        item: Any
        for item in news:
            kind = item[0]
            if kind == _kernel.NEWS_DONE:
                _, number, raw, fmt, data, size, nested, failed, turn = item
                refs = [wire_ref(ref) for ref in nested] if nested else []
                if data is not None and fmt >= _kernel.FORMAT_ERROR:
                    data = with_node(fmt, data, self.peers.label)
                results[number].append(messages.Result(raw, fmt, data, size, refs, failed, turn=turn))
            elif kind == _kernel.NEWS_GONE:
                _, raw, owner, noted, located = item
                there = around(raw) if located and located == owner else raw
                self.wanted.forget(there)
                self.loans.forget(raw)
                self.given.gone(raw, owner)
                for number, times in noted:
                    returns[number].append((raw, times))
                if located:
                    returns[located].append((there, 1))
            elif kind == _kernel.NEWS_CALLS:
                calls.append(item[1:])
            elif kind == _kernel.NEWS_CHECKPOINT:
                _, value, number, raw, turn, is_last = item
                checkpoints.append((number, raw, turn, value, is_last))
            elif kind == _kernel.NEWS_WANTED:
                self.wanted.on_wanted(item[1])
            elif kind == _kernel.NEWS_SEALED:
                self.given.on_sealed(item[1].binary())
                self.checkpoints.on_sealed()
        for number, finished in results.items():
            self.peers.send(number, messages.Results(finished))
        for checkpoint in checkpoints:  # behind the results of the calls that they cover
            self.checkpoints.tell(*checkpoint)
        for number, returned in returns.items():
            self.peers.give_back(number, returned)
        for actor, number, ends in calls:
            self.calls.send(actor, number, ends)
