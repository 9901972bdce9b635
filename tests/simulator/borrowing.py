"""The protocol of ids, tasks and values between nodes, as small as it can be: what the simulator was made to
try.

`Rules` name what the protocol needs beyond its first design; each can be left out, and then some seed shows
what goes wrong (`test_borrowing.py`).

What was looked for and not found: an id needs no loan on its way to its owner, nor need it be kept until its
owner has confirmed it, because whatever carries it (a task that is away, a result, a value that somebody has
borrowed) stays at the sender, with the ids in it, until the receiver has it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from tests.simulator import messages
from tests.simulator.messages import Message
from tests.simulator.model_arena import (
    NEWS_DONE,
    NEWS_GONE,
    NEWS_SEALED,
    NEWS_WANTED,
    THIS_NODE,
    IdRef,
    ModelArena,
    ModelObjectID,
    News,
    Rules,
    SentTask,
    Times,
)


@dataclass(slots=True)
class Peer:
    number: int
    node: bytes
    up: bool = False
    synced: bool = False
    waiting: list[Message] = field(default_factory=list)


class Borrowing:
    """One node's part. All that must not be lost is in the arena."""

    def __init__(
        self,
        arena: ModelArena,
        node: bytes,
        send: Callable[[bytes, Message], None],
        want_link: Callable[[bytes], None],
        dead: set[bytes],
        rules: Rules,
    ) -> None:
        self.arena = arena
        self.node = node
        self.send = send
        self.want_link = want_link
        self.dead = dead
        self.rules = rules
        self.peers: dict[int, Peer] = {}
        self.by_node: dict[bytes, Peer] = {}
        self.retry: list[bytes] = []  # values to be asked for anew
        self._wanted: dict[bytes, int] = {}  # values asked for, and of which peer
        self._askers: dict[bytes, set[int]] = defaultdict(set)
        self._borrowing: set[bytes] = set()  # asked to confirm on a link that is still up
        for number, peer_node in arena.peers():
            self._add(number, peer_node)

    # --- links ---

    def peer_of(self, node: bytes) -> Peer:
        return self.by_node.get(node) or self._add(self.arena.enter_peer(node), node)

    def _add(self, number: int, node: bytes) -> Peer:
        peer = self.peers[number] = self.by_node[node] = Peer(number, node)
        self.want_link(node)
        return peer

    def on_link_up(self, node: bytes) -> None:
        if node in self.dead:
            return
        peer = self.peer_of(node)
        peer.up, peer.synced = True, False
        peer.waiting.clear()
        self.send(
            node, messages.Sync(tuple(self.arena.notes(peer.number)), tuple(self.arena.received(peer.number)))
        )
        self._borrow_all(peer)

    def on_link_down(self, node: bytes) -> None:
        if node in self.dead:
            return
        peer = self.peer_of(node)
        peer.up = peer.synced = False
        peer.waiting.clear()
        for askers in self._askers.values():
            askers.discard(peer.number)
        if self.rules.remember_whom:
            for key in [key for key, number in self._wanted.items() if number == peer.number]:
                self._want_again(key)
        self.want_link(node)

    def on_death(self, node: bytes) -> None:
        """It is dead for good."""
        peer = self.by_node.pop(node, None)
        if peer is None:
            return
        del self.peers[peer.number]
        for askers in self._askers.values():
            askers.discard(peer.number)
        self.arena.bury_peer(peer.number, keep_loans=self.rules.keep_loans_of_dead)
        self._give_back_all(self.arena.noted_from_others())
        self._wanted.clear()
        self.arena.renew_all_wanted()

    def on_message(self, node: bytes, message: Message) -> None:
        if node in self.dead:
            return
        peer = self.peer_of(node)
        match message:
            case messages.Sync():
                self._on_sync(peer, message)
            case messages.Return(returned):
                self.arena.take_back(peer.number, list(returned))
            case messages.Borrow(ids):
                self._on_borrow(peer, ids)
            case messages.Lent(ids):
                self._on_lent(peer, ids)
            case messages.Run(tasks):
                self._on_run(peer, tasks)
            case messages.Results(results):
                self._on_results(peer, results)
            case messages.Want(ids):
                self._on_want(peer, ids)
            case messages.Values(values):
                self._on_values(peer, values)
            case messages.Elsewhere(places):
                self._on_elsewhere(peer, places)
            case messages.Lost(ids):
                self._on_lost(peer, ids)

    def _on_sync(self, peer: Peer, sync: messages.Sync) -> None:
        self.arena.match_loans(peer.number, list(sync.noted))
        there = set(sync.tasks)
        self.arena.recall(peer.number, [task for task in self.arena.away(peer.number) if task not in there])
        peer.synced = True
        waiting, peer.waiting = peer.waiting, []
        for message in waiting:
            self.send(peer.node, message)
        for key in list(self._wanted):
            if (oid := self.arena.known(key)) and self._holder(oid) == peer.number:
                del self._wanted[key]
        self.arena.renew_news(peer.number)

    def _give(self, peer: Peer, message: Message) -> None:
        """Sends what lends nothing. Without a link, the next Sync says the same."""
        if peer.synced or (peer.up and self.rules.return_after_own_sync):
            self.send(peer.node, message)

    def _lend(self, peer: Peer, make: Callable[[], Message]) -> None:
        """Sends what lends ids, if that may be now; if not, it is made anew after the peer's Sync."""
        if peer.synced:
            self.send(peer.node, make())
        elif peer.up and not self.rules.lend_after_sync:
            peer.waiting.append(make())

    # --- ids ---

    def _ref(self, ref: messages.Ref, sender: Peer) -> IdRef:
        key, owner = ref
        if owner == self.node:
            return key, THIS_NODE
        if owner in self.dead and self.rules.know_dead:
            return key, sender.number
        return key, self.peer_of(owner).number

    def _wire(self, refs: Iterable[IdRef]) -> tuple[messages.Ref, ...]:
        return tuple(
            (key, self.node if owner == THIS_NODE else self.peers[owner].node) for key, owner in refs
        )

    def _came(self) -> None:
        """Ids have come: their owners are asked to confirm, and what was confirmed before goes back."""
        self._give_back_all(self.arena.noted_from_others())
        for owner in {owner for _, owner in self.arena.unconfirmed()}:
            if owner in self.peers:
                self._borrow_all(self.peers[owner], only_new=True)

    def _borrow_all(self, owner: Peer, only_new: bool = False) -> None:
        ids = [key for key, number in self.arena.unconfirmed() if number == owner.number]
        if only_new:
            ids = [key for key in ids if key not in self._borrowing]
        if ids and (owner.synced or owner.up):
            self._borrowing.update(ids)
            self._give(owner, messages.Borrow(tuple(ids)))

    def _give_back_all(self, ids: list[bytes]) -> None:
        for peer in self.peers.values():
            if returned := self.arena.forget_notes(peer.number, ids):
                self._give(peer, messages.Return(tuple(returned)))

    def _on_borrow(self, peer: Peer, ids: tuple[bytes, ...]) -> None:
        if not peer.synced:
            return
        lent = self.arena.lend(peer.number, ids)
        if lent:
            self._give(peer, messages.Lent(tuple(lent)))
        if lost := [key for key in ids if key not in set(lent)]:
            self._give(peer, messages.Lost(tuple(lost)))

    def _on_lent(self, peer: Peer, ids: tuple[bytes, ...]) -> None:
        self._borrowing.difference_update(ids)
        self.arena.note(peer.number, [(key, peer.number) for key in ids])
        self._give_back_all(list(ids))

    # --- tasks ---

    def send_tasks(self, node: bytes, count: int) -> int:
        peer = self.peer_of(node)
        if not peer.synced:
            return 0
        sent = self.arena.send_tasks(peer.number, count)
        if sent:
            tasks = tuple(
                messages.WireTask(
                    task.id,
                    task.payload,
                    self._wire(task.deps),
                    self._wire(task.nested),
                    task.num_returns,
                    task.attempt,
                    task.retries,
                )
                for task in sent
            )
            self._lend(peer, partial(messages.Run, tasks))
        return len(sent)

    def _on_run(self, peer: Peer, tasks: tuple[messages.WireTask, ...]) -> None:
        self.arena.receive_tasks(
            peer.number,
            [
                SentTask(
                    task.id,
                    task.payload,
                    tuple(self._ref(ref, peer) for ref in task.deps),
                    tuple(self._ref(ref, peer) for ref in task.nested),
                    task.num_returns,
                    task.attempt,
                    task.retries,
                )
                for task in tasks
            ],
        )
        self._came()

    def _on_results(self, peer: Peer, results: tuple[messages.Result, ...]) -> None:
        done: Times = []
        for result in results:
            nested = [self._ref(ref, peer) for ref in result.nested]
            fresh = self.arena.finish_return(
                peer.number, result.id, result.fmt, result.data, result.size, nested
            )
            if not fresh:
                done += self._refused(nested)
            if not fresh or result.data is not None:
                done.append((result.id, 1))
        self._came()
        if done:
            self._give(peer, messages.Return(tuple(done)))

    def _refused(self, nested: list[IdRef]) -> Times:
        """Ids that came with what is not needed were lent all the same, and go back."""
        return [(key, 1) for key, owner in nested if owner != THIS_NODE]

    # --- values ---

    def _holder(self, oid: ModelObjectID) -> int:
        return self.arena.location(oid) or self.arena.owner(oid)

    def _want(self, oids: list[ModelObjectID]) -> None:
        asked: dict[int, list[bytes]] = defaultdict(list)
        for oid in oids:
            key, holder = oid.binary(), self._holder(oid)
            if key not in self._wanted and holder in self.peers:
                self._wanted[key] = holder
                asked[holder].append(key)
        for holder, ids in asked.items():
            peer = self.peers[holder]
            if peer.synced or (peer.up and self.rules.return_after_own_sync):
                self.send(peer.node, messages.Want(tuple(ids)))
            else:
                for key in ids:
                    del self._wanted[key]  # asked for anew after Sync

    def _on_want(self, peer: Peer, ids: tuple[bytes, ...]) -> None:
        if not peer.synced and self.rules.lend_after_sync:
            return  # it asks again once it has our Sync
        lost = []
        elsewhere = []
        for key in ids:
            oid = self.arena.known(key)
            if oid is None:
                lost.append(key)
            elif self.arena.is_ready(oid):
                self._lend(peer, partial(self._values, peer, oid, key))
            elif location := self.arena.location(oid):
                elsewhere.append((key, self.peers[location].node))
            else:
                self._askers[key].add(peer.number)
                self.arena.subscribe(oid)
        if elsewhere:
            self._give(peer, messages.Elsewhere(tuple(elsewhere)))
        if lost:
            self._give(peer, messages.Lost(tuple(lost)))

    def _values(self, peer: Peer, oid: ModelObjectID, key: bytes) -> messages.Values:
        value = self.arena.value_for(peer.number, oid)
        assert value is not None
        fmt, data, size, nested = value
        # The bytes of a large one go another way; the model carries them here.
        data = self.arena.value(oid).data if data is None else data
        return messages.Values((messages.Result(key, fmt, data, size, self._wire(nested)),))

    def _on_values(self, peer: Peer, values: tuple[messages.Result, ...]) -> None:
        returned: Times = []
        for value in values:
            nested = [self._ref(ref, peer) for ref in value.nested]
            oid = self.arena.known(value.id)
            self._wanted.pop(value.id, None)
            if oid is None or self.arena.is_ready(oid):
                returned += self._refused(nested)
                continue
            location = self.arena.location(oid)
            held = [self.arena.foreign(ref) for ref in nested]
            self.arena.note(peer.number, nested)
            assert value.data is not None
            self.arena.seal(oid, value.data, value.fmt, value.size, held)
            del held
            if location in self.peers:
                self._give(self.peers[location], messages.Return(((value.id, 1),)))
        self._came()
        if returned:
            self._give(peer, messages.Return(tuple(returned)))

    def _on_elsewhere(self, peer: Peer, places: tuple[messages.Ref, ...]) -> None:
        for key, node in places:
            if key not in self._wanted:
                continue
            if node == self.node:
                # It was here when its owner said so; the owner will know better.
                self._want_again(key)
            elif node not in self.dead and (there := self.peer_of(node)).up:
                self._wanted[key] = there.number
                self._give(there, messages.Want((key,)))
            else:
                self._want_again(key)

    def _want_again(self, key: bytes) -> None:
        self._wanted.pop(key, None)
        self.retry.append(key)

    def _on_lost(self, peer: Peer, ids: tuple[bytes, ...]) -> None:
        for key in ids:
            oid = self.arena.known(key)
            if oid is None:
                continue
            if self.arena.owner(oid) == peer.number:
                self._wanted.pop(key, None)
                self.arena.lose(oid)
                self.arena.confirm(key)
                self._borrowing.discard(key)
                self._give_back_all([key])
            elif key in self._wanted:
                self._want_again(key)

    # --- news ---

    def on_news(self, news: list[News]) -> None:
        wanted: list[ModelObjectID] = []
        for item in news:
            match item:
                case (kind, int(number), bytes(key), int(fmt), data, int(size), nested) if kind == NEWS_DONE:
                    peer = self.peers.get(number)
                    if peer is not None:
                        refs = self._wire(nested)
                        results = (messages.Result(key, fmt, data, size, refs),)
                        self._lend(peer, partial(messages.Results, results))
                case (kind, bytes(key), _, noted, located) if kind == NEWS_GONE:
                    self._wanted.pop(key, None)
                    self._borrowing.discard(key)
                    for number, times in noted:
                        if number in self.peers:
                            self._give(self.peers[number], messages.Return(((key, times),)))
                    if located in self.peers:
                        self._give(self.peers[located], messages.Return(((key, 1),)))
                case (kind, oid) if kind == NEWS_WANTED:
                    wanted.append(oid)
                case (kind, oid) if kind == NEWS_SEALED:
                    key = oid.binary()
                    for number in sorted(self._askers.pop(key, ())):
                        if number in self.peers:
                            self._on_want(self.peers[number], (key,))
        self._want(wanted)

    def on_timer(self) -> None:
        """Whatever has to be asked for again."""
        again, self.retry = self.retry, []
        self._want([oid for key in again if (oid := self.arena.known(key)) and not self.arena.is_ready(oid)])
