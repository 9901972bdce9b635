"""What node managers say to each other about tasks, ids and values: the protocol, without sockets or clock.

Events come in as calls (`on_...`); what follows are calls of the arena and messages to other nodes. The arena
holds all that must not be lost. What is kept here may be forgotten at any moment, and is made anew when a
link comes up: then both sides tell what they have of each other (`Sync`), and say nothing else before that is
done. So no message is acknowledged, and one that is lost with its link has never been sent.

Names: a *peer* is another node by its number in this arena; a *ref* is an id with the peer that owns it (0:
this node), on the wire with that node's id instead.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from ray import _kernel
from ray.node.cluster.checkpoints import Checkpoints
from ray.node.cluster.orphans import MOST_IDS, MOST_NODES, Orphans
from ray.policy.cluster.transfers import Answer, Spread
from ray.serialization.failures import lost_object, with_node
from ray.wire import messages
from ray.wire.messages import Message

Ref = tuple[bytes, int]

THIS_NODE = 0  # as the number of an owner
ENTRIES_AT_ONCE = 100_000  # in one part of a Sync
CALLS_AT_ONCE = 512  # to one actor, before others have their turn
FIRST_RETURN = bytes(4)  # how the id of a task's first result ends
GRACE_S = 15.0  # longer than a link that breaks is away
FUNCTIONS_KEPT = 1_000  # of one job
SERVED_INDEX = bytes((1, 0, 0, 0xC0))  # how the id of an actor ends where it is served for another node
AROUND = 0x40  # in the last byte of an id, of the result of a call that its actor's owner has sent back


def around(raw: bytes) -> bytes:
    """What the node that owns a result, and has executed the call, knows it by as the executor: the actor's
    owner, to whom it had sent the call, has sent it back."""
    return raw[:-1] + bytes((raw[-1] | AROUND,))


def as_owned(raw: bytes) -> bytes:
    """What its owner knows a result by, and all others do."""
    is_around = raw[-1] & 0xC0 == AROUND
    return raw[:-1] + bytes((raw[-1] & ~AROUND,)) if is_around else raw


class Network(Protocol):
    def send(self, node: bytes, message: Message) -> None:
        """Queues it for a node whose link is up."""

    def want_link(self, node: bytes) -> None:
        """Brings a link up if there is none; `Exchange.on_link_up` tells."""


class Transfers(Protocol):
    def pull(
        self,
        source: bytes,
        value: messages.Result,
        oid: _kernel.ObjectID,
        nested: list[_kernel.ObjectID],
    ) -> None:
        """Brings a large value here and calls `Exchange.on_pulled`. Returns at once."""


class Jobs(Protocol):
    def describe(self, root: bytes) -> messages.Job:
        """What other nodes must know of a job that this node knows."""

    def learn(self, number: int, job: messages.Job) -> None:
        """Of a driver elsewhere, before the first of its tasks is here."""

    def ended(self) -> None:
        """Of drivers elsewhere some have ended."""


@dataclass(slots=True)
class Peer:
    number: int
    node: bytes
    up: bool = False
    synced: bool = False  # it has told what it has of this node
    waiting: list[Message] = field(default_factory=list)  # until then
    returns: list[tuple[bytes, int]] = field(default_factory=list)  # to go with the next message, or tick
    heard: list[messages.Sync] = field(default_factory=list)  # parts of its Sync
    told_jobs: set[bytes] = field(default_factory=set)
    guests: dict[bytes, int] = field(default_factory=dict)  # its drivers: their jobs' numbers here


class Exchange:
    def __init__(
        self, arena: _kernel.Arena, node: bytes, network: Network, transfers: Transfers, jobs: Jobs
    ) -> None:
        self.arena = arena
        self.node = node
        self.network = network
        self.transfers = transfers
        self.jobs = jobs
        self.peers: dict[int, Peer] = {}
        self.by_node: dict[bytes, Peer] = {}
        self._wanted: dict[
            bytes, tuple[int, int]
        ] = {}  # asked for, or on their way: owner, and the peer asked
        self._askers: dict[bytes, set[int]] = defaultdict(set)  # peers that want what has no value yet
        self._borrowed: set[bytes] = set()  # ids that their owners have lent to this node
        self._borrowing: dict[bytes, int] = {}  # ids that came from others, whose owners are to confirm
        # Functions of other nodes' jobs: else each would go with its last task here, and come again with the
        # next.
        self.functions: dict[int, dict[bytes, _kernel.ObjectID]] = defaultdict(dict)
        self.spread = Spread()  # large values that others have asked this node for
        self._dead: dict[bytes, str] = {}  # what they are called to users
        self.orphans = Orphans()  # of dead nodes that are not buried yet
        # Who else may have copies of what they owned.
        self.members: Callable[[], Iterable[bytes]] = lambda: ()
        self._named: dict[bytes, list[bytes]] = {}  # by wanted id: the sources that were named to this node
        self._again: dict[bytes, None] = {}  # wanted ids, to be asked for when the next tick comes
        # A value is wanted, and stored at that node, with so many bytes: sends tasks that wait for it there,
        # and says whether any went.
        self.on_located: Callable[[_kernel.ObjectID, bytes, int], bool] = lambda oid, node, size_bytes: False
        self.label = ""  # how failures name this node to others
        self.is_leaving = False  # no tasks of others are taken any more
        self.checkpoints = Checkpoints()
        for number, node_id in arena.peers():
            self._add(number, node_id)
        for job, home, root in arena.guests():
            self.peers[home].guests[root] = job
        self._remember_loans()

    def _remember_loans(self) -> None:
        """What the node manager before this one has been lent, and not had confirmed."""
        for number in self.peers:
            for raw, _ in self.arena.notes(number):
                owner = self.arena.owner(self.arena.foreign((raw, THIS_NODE)))
                if owner == number:
                    self._borrowed.add(raw)
                elif owner != THIS_NODE:
                    self._borrowing[raw] = owner
        for raw in self._borrowed & self._borrowing.keys():
            del self._borrowing[raw]

    # --- peers ---

    def peer_of(self, node: bytes) -> Peer:
        """Made when the node is first heard of."""
        return self.by_node.get(node) or self._add(self.arena.enter_peer(node), node)

    def want_links(self) -> None:
        """With all nodes that there is anything with: what was lost with a link may be waited for."""
        for peer in self.peers.values():
            if not peer.up and peer.node not in self._dead:
                self.network.want_link(peer.node)

    def on_link_up(self, node: bytes) -> None:
        if node in self._dead:
            return
        peer = self.peer_of(node)
        self._forget_link(peer)
        peer.up = True
        for part in self._sync(peer):
            self.network.send(node, part)
        self._ask_to_borrow(
            peer.number, [raw for raw, owner in self._borrowing.items() if owner == peer.number]
        )

    def on_link_down(self, node: bytes) -> None:
        if node in self.by_node:
            self._forget_link(self.by_node[node])
            number = self.by_node[node].number
            self.orphans.unlinked(number)
            for raw, (owner, holder) in self._wanted.items():
                if holder == number and self.orphans.holds(owner, raw):  # another may have a copy as well
                    self._again[raw] = None
            self.network.want_link(node)  # what was lost on the way may be waited for

    def on_death(self, node: bytes, name: str = "") -> list[_kernel.ObjectID]:
        """It is dead for good: its tasks run again, what only it had is lost, its jobs end here. `name` is
        what users know it by.

        What it had been lent is returned: to be kept for `GRACE_S`, since it may have passed the ids on to
        others, who are about to ask for a loan of their own. The rest waits for a moment if it owned what
        this node has no value of, and another node may have: `Orphans`.
        """
        return self._on_death(node, name, True)

    def end_incarnation(self) -> list[_kernel.ObjectID]:
        """All others are dead to this node, at once."""
        kept = [oid for node in list(self.by_node) for oid in self._on_death(node, "", False)]
        for number in self.orphans.end():
            self._bury(self.peers[number])
        return kept

    def _on_death(self, node: bytes, name: str, may_wait: bool) -> list[_kernel.ObjectID]:
        self._dead[node] = name
        peer = self.by_node.pop(node, None)
        if peer is None:
            return []
        lent = [self.arena.foreign((raw, THIS_NODE)) for raw, _ in self.arena.loans(peer.number)]
        # Not the results of its own tasks: it may come back as another node, and send these again.
        kept = [oid for oid in lent if self.arena.owner(oid) != peer.number]
        lent.clear()
        self._forget_link(peer)
        self.orphans.gone(peer.number)
        orphans = self._without_value(peer) if may_wait else {}
        others = self._may_have(orphans, peer) if orphans else []
        if others:
            self.orphans.add(peer.number, node, orphans, others)
            self._ask_others(peer)
        else:
            for raw, oid in orphans.items():
                self._lose(node, raw, oid)
            self._bury(peer)
        self._look_for_orphans()
        return kept

    def _without_value(self, dead: Peer) -> dict[bytes, _kernel.ObjectID]:
        """What it owned, is referred to here, and has no value; first what is waited for."""
        waited = [raw for raw, (owner, _) in self._wanted.items() if owner == dead.number]
        borrowing = [raw for raw, owner in self._borrowing.items() if owner == dead.number]
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

    def _may_have(self, ids: Iterable[bytes], dead: Peer) -> list[int]:
        """Copies of some of these: first who has passed one on or was named as a source, then the linked."""
        first: dict[int, None] = {}
        if any(raw in self._borrowing for raw in ids):
            for number in self.peers:
                if any(raw in self._borrowing and raw in ids for raw, _ in self.arena.notes(number)):
                    first[number] = None
        for raw in ids:
            for node in self._named.get(raw, ()):
                if node in self.by_node:
                    first[self.by_node[node].number] = None
        linked = [peer.number for peer in self.by_node.values() if peer.synced]
        order = dict.fromkeys((*first, *linked, *(peer.number for peer in self.by_node.values())))
        order.pop(dead.number, None)
        found = [number for number in order if self.peers[number].node not in self._dead]
        for node in self.members():
            if len(found) >= MOST_NODES:
                break
            if node not in self.by_node and node != self.node and node not in self._dead:
                found.append(self.peer_of(node).number)
        return found[:MOST_NODES]

    def _look_for_orphans(self) -> None:
        """Whom to ask has changed, or what is known."""
        for number, owner, ids in self.orphans.questions():
            self._send(number, messages.AskCopies(owner, ids))
        for owner, raw, oid in self.orphans.lost():
            self._lose(owner, raw, oid)
        for number in self.orphans.over():
            self._bury(self.peers[number])

    def _lose(self, owner: bytes, raw: bytes, oid: _kernel.ObjectID) -> None:
        """Nobody has a value of what that dead node owned."""
        self._wanted.pop(raw, None)
        self.arena.seal(oid, lost_object(raw, self._dead[owner]), _kernel.FORMAT_SYSTEM, [])

    def _on_ask_copies(self, peer: Peer, question: messages.AskCopies) -> None:
        """Whoever asks has heard of the death; this node may not have, or may look for the same."""
        oids = [self.arena.foreign((raw, THIS_NODE)) for raw in question.ids]  # what is gone is a failure
        here = [
            oid
            for oid in oids
            if self.arena.is_ready(oid) and self.arena.get(oid, 0)[0] != _kernel.FORMAT_SYSTEM
        ]
        self.arena.lend(peer.number, here)
        self._send(peer.number, messages.Copies(question.owner, [oid.binary() for oid in here]))

    def _on_copies(self, peer: Peer, copies: messages.Copies) -> None:
        owner = self.orphans.number(copies.owner)
        needed = [raw for raw in copies.ids if owner is not None and self.orphans.holds(owner, raw)]
        needless = set(copies.ids).difference(needed)
        if needless:
            self._return(peer.number, [(raw, 1) for raw in needless])
        if owner is None:
            return
        self.arena.note(peer.number, [(raw, owner) for raw in needed])
        for raw in self.orphans.answered(owner, peer.number, needed):
            self._wanted.pop(raw, None)
            self._want(raw, owner, owner)
        self._look_for_orphans()

    def _bury(self, peer: Peer) -> None:
        for raw in self.spread.keys:  # nobody will tell when others let go of what it owned
            if self.arena.owner(self.arena.foreign((raw, THIS_NODE))) == peer.number:
                self._end_sharing(raw, peer.number)
        del self.peers[peer.number]
        for job in peer.guests.values():
            self.functions.pop(job, None)
        self.arena.bury_peer(peer.number)
        self.jobs.ended()
        # What it owned is this node's now. Two nodes that had lent each other such an id would keep it for
        # ever.
        for number in self.peers:
            self._give_back(number, [raw for raw, _ in self.arena.notes(number) if self._is_own(raw)])
        self._borrowed = {raw for raw in self._borrowed if not self._is_own(raw)}
        self._borrowing = {raw: owner for raw, owner in self._borrowing.items() if owner != peer.number}
        for raw in [raw for raw in self._wanted if self._is_here(raw)]:  # has failed with it
            del self._wanted[raw]
        self._named = {raw: sources for raw, sources in self._named.items() if raw in self._wanted}
        self._ask_others(peer)

    def _ask_others(self, dead: Peer) -> None:
        """What it was asked for, or another about something that it owned."""
        for raw, (owner, holder) in list(self._wanted.items()):
            if dead.number in (owner, holder):
                del self._wanted[raw]
                self._want(raw, owner, owner)  # if that is another, it had told to ask the dead one

    def _forget_link(self, peer: Peer) -> None:
        self.checkpoints.on_link_down(self, peer.number)
        peer.up = peer.synced = False
        peer.waiting.clear()
        peer.returns.clear()
        peer.heard.clear()
        peer.told_jobs.clear()
        for askers in self._askers.values():
            askers.discard(peer.number)
        self._name_sources(self.spread.gone(peer.node))
        # A copy that another node lets go of may be returned to whoever lent it, and that one be gone by now.
        self.spread.forget_idle()

    def _add(self, number: int, node: bytes) -> Peer:
        peer = self.peers[number] = self.by_node[node] = Peer(number, node)
        return peer

    def _send(self, number: int, message: Message) -> None:
        """What is lost because there is no link is made good by `Sync`."""
        peer = self.peers.get(number)
        if peer is None or peer.node in self._dead:
            return
        if peer.synced:
            self._send_returns(peer)
            self.network.send(peer.node, message)
        elif peer.up:
            # Results lend ids, and the peer's Sync takes back what it has not heard of; then they are news
            # again.
            if not isinstance(message, messages.Results):
                peer.waiting.append(message)
        else:
            self.network.want_link(peer.node)

    def guest(self, job: int) -> tuple[bytes, bytes] | None:
        """Node and root id of another node's driver, by its number here."""
        guests = ((peer.node, *each) for peer in self.peers.values() for each in peer.guests.items())
        return next(((node, root) for node, root, number in guests if number == job), None)

    def number(self, home: bytes, root: bytes) -> int | None:
        """The other way round."""
        peer = self.by_node.get(home)
        return None if peer is None else peer.guests.get(root)

    def tell(self, node: bytes, message: Message) -> bool:
        """For what is no part of this protocol. False: there is no link with Syncs from both sides."""
        peer = self.by_node.get(node)
        if peer is None or not peer.synced:
            return False
        self.network.send(node, message)
        return True

    def _return(self, number: int, counts: list[tuple[bytes, int]]) -> None:
        """Soon: nobody waits for it, and alone it would wake the peer up."""
        if number in self.peers:
            self.peers[number].returns += counts

    def _send_returns(self, peer: Peer) -> None:
        if peer.returns:
            returns, peer.returns = peer.returns, []
            self._send(peer.number, messages.Return(returns))

    def on_message(self, node: bytes, message: Message) -> list[bytes]:
        """The ids of this node's tasks whose end it tells."""
        if node in self._dead:
            return []
        peer = self.peer_of(node)
        if isinstance(message, messages.Sync):
            self._on_sync(peer, message)
            return []
        handler = self._HANDLERS.get(type(message))
        if handler is None or not peer.synced:
            return []
        return handler(self, peer, message) or []

    # --- Sync ---

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
        self._return(number, [(task + SERVED_INDEX, 1) for task in gone])
        jobs = {root for part in parts for root in part.jobs}
        for root in [root for root in peer.guests if root not in jobs]:
            self._bury_guest(peer.guests.pop(root))
        peer.heard = []
        peer.synced = True
        waiting, peer.waiting = peer.waiting, []
        for message in waiting:
            self.network.send(peer.node, message)
        asked = [(raw, owner) for raw, (owner, holder) in self._wanted.items() if holder == number]
        for raw, owner in asked:
            del self._wanted[raw]
            if owner in self.peers and owner != number:
                self._want(raw, owner, owner)
        self.orphans.synced(number)
        self._look_for_orphans()
        arena.renew_news(number)

    # --- refs on the wire ---

    def _ref(self, ref: messages.Ref, sender: Peer) -> Ref:
        if ref.owner == self.node:
            return ref.id, THIS_NODE
        # What a dead node owned is the sender's, or soon will be.
        owner = sender if ref.owner in self._dead else self.peer_of(ref.owner)
        return ref.id, owner.number

    def _wire_ref(self, ref: Ref) -> messages.Ref:
        raw, owner = ref
        return messages.Ref(raw, self.node if owner == THIS_NODE else self.peers[owner].node)

    def _is_own(self, raw: bytes) -> bool:
        """Of an id that is known here: it is this node's, or has become so with the death of its owner."""
        return self.arena.owner(self.arena.foreign((raw, THIS_NODE))) == THIS_NODE

    # --- borrowing ---

    def _came_from(self, sender: int, refs: Iterable[Ref]) -> None:
        """Ids that the arena has noted from this sender: if they are others', their owners are asked to
        confirm."""
        strangers: dict[int, list[bytes]] = defaultdict(list)
        confirmed = []
        own: dict[bytes, int] = defaultdict(int)
        for raw, owner in refs:
            if owner == THIS_NODE:
                continue
            if self._is_own(raw):  # the sender does not know yet that its owner is dead, and has lent it
                own[raw] += 1
            elif owner == sender:
                self._borrowed.add(raw)
            elif raw in self._borrowed:
                confirmed.append(raw)
            elif raw not in self._borrowing:
                self._borrowing[raw] = owner
                strangers[owner].append(raw)
        if own:
            self._return(sender, list(own.items()))
        if confirmed:
            self._give_back(sender, confirmed)
        for owner, ids in strangers.items():
            self._ask_to_borrow(owner, ids)

    def _ask_to_borrow(self, owner: int, ids: list[bytes]) -> None:
        if ids:
            self._send(owner, messages.Borrow(ids))

    def _give_back(self, sender: int, ids: list[bytes]) -> None:
        returned = self.arena.forget_notes(sender, ids)
        if returned:
            self._return(sender, returned)

    def _on_borrow(self, peer: Peer, borrow: messages.Borrow) -> None:
        # What is gone is lent as well: as a failure that says so.
        self.arena.lend(peer.number, [self.arena.foreign((raw, THIS_NODE)) for raw in borrow.ids])
        self._send(peer.number, messages.Lent(borrow.ids))

    def _on_lent(self, peer: Peer, lent: messages.Lent) -> None:
        self.arena.note(peer.number, [(raw, peer.number) for raw in lent.ids])
        for raw in lent.ids:
            self._borrowing.pop(raw, None)
        self._borrowed.update(lent.ids)
        for other in list(self.peers):
            if other != peer.number:
                self._give_back(other, lent.ids)

    def _on_return(self, peer: Peer, message: messages.Return) -> None:
        shared = [raw for raw, _ in message.counts if self.spread.knows(raw)]
        owners = [self.arena.owner(self.arena.foreign((raw, THIS_NODE))) for raw in shared]
        self.arena.take_back(peer.number, message.counts)
        for raw, owner in zip(shared, owners, strict=True):
            if owner == peer.number:  # it has the value now: others are to ask there
                self._end_sharing(raw, owner)
                continue
            self._name_sources([*self.spread.lost(raw, peer.node), *self.spread.gave_up(raw, peer.node)])
            self.spread.forget_if_only(self.node, raw)

    # --- tasks ---

    def send_tasks(self, node: bytes, shape: int, count: int) -> list[bytes]:
        """Sends so many ready tasks, as far as there are, to a node whose link is up; their ids."""
        peer = self.by_node.get(node)
        if peer is None or not peer.synced:
            return []
        return self._run(peer, self.arena.send_tasks(peer.number, shape, count))

    def send_followers(self, node: bytes, oid: _kernel.ObjectID, shape: int, count: int) -> list[bytes]:
        """Sends tasks that wait for nothing but this value to a node that has it; their ids."""
        peer = self.by_node.get(node)
        if peer is None or not peer.synced:
            return []
        return self._run(peer, self.arena.send_followers(peer.number, oid, shape, count))

    def send_calls(self, actor: _kernel.ObjectID, number: int, ends: bytes | None) -> None:
        """What is to be told to the node that serves an actor; without a link it is news again with the next
        one."""
        peer = self.peers.get(number)
        if peer is None:
            return
        if not peer.synced:
            self.network.want_link(peer.node)
            return
        if ends is not None:
            self._send(number, messages.Kill([ends]))
        self._run(peer, self.arena.send_calls(number, actor, CALLS_AT_ONCE))

    def _run(self, peer: Peer, tasks: "list[_kernel.SentTask]") -> list[bytes]:
        """The ids of those that the peer is told of."""
        told = []
        for sent in tasks:
            (raw, job, function, payload, deps, nested, num_returns, cpu, gpu, custom, attempt, retries,
             actor, after, interval, is_around, checkpoint, turn) = sent  # fmt: skip
            known = self.arena.job_root(job)
            if known is None:  # its driver has ended just now; its tasks are failed by that
                if actor is not None:  # those of the calls that are away
                    self.jobs.ended()
                continue
            home, root = known
            if root not in peer.told_jobs:
                peer.told_jobs.add(root)
                self._send(peer.number, self.jobs.describe(root))
            told.append(
                messages.Task(
                    id=raw,
                    job=root,
                    job_home=self.node if home == THIS_NODE else self.peers[home].node,
                    function=None if function is None else self._wire_ref(function),
                    payload=bytes(payload),
                    deps=[self._wire_ref(ref) for ref in deps],
                    nested=[self._wire_ref(ref) for ref in nested],
                    num_returns=num_returns,
                    needs=messages.Resources(cpu, gpu, custom),
                    attempt=attempt,
                    retries=retries,
                    actor=None if actor is None else self._wire_ref(actor),
                    after=after,
                    interval=interval,
                    around=is_around,
                    checkpoint=None if checkpoint is None else self._wire_ref(checkpoint),
                    turn=turn,
                )
            )
        if told:
            self._send(peer.number, messages.Run(told))
        return [task.id for task in told]

    def _on_job(self, peer: Peer, job: messages.Job) -> None:
        if job.home in self._dead:  # which the peer will hear as well
            return
        home = self.peer_of(job.home)
        if job.ended:
            number = home.guests.pop(job.root_id, None)
            if number is not None:
                self._bury_guest(number)
                self._tell_end(job)
        elif job.home != self.node and job.root_id not in home.guests:
            number = home.guests[job.root_id] = self.arena.enter_guest(home.number, job.root_id)
            self.jobs.learn(number, job)

    def _bury_guest(self, job: int) -> None:
        self.functions.pop(job, None)
        self.arena.bury_guest(job)
        self.jobs.ended()

    def on_jobs_ended(self) -> None:
        """Drivers of this node have ended."""
        living = {root for _, root in self.arena.drivers()}
        for peer in self.peers.values():
            living.update(peer.guests)
        for root in {root for peer in self.peers.values() for root in peer.told_jobs} - living:
            self._tell_end(messages.Job(root, self.node, [], True))

    def _tell_end(self, job: messages.Job) -> None:
        """To all nodes that this one has sent tasks of the job."""
        for peer in self.peers.values():
            if job.root_id in peer.told_jobs:
                peer.told_jobs.discard(job.root_id)
                self._send(peer.number, job)

    def _on_run(self, peer: Peer, run: messages.Run) -> None:
        tasks: list[_kernel.SentTask] = []
        refs: list[Ref] = []
        untaken = []
        own_jobs = {root: job for job, root in self.arena.drivers()}
        for task in run.tasks:
            home = self.by_node.get(task.job_home)
            jobs = own_jobs if task.job_home == self.node else home.guests if home else {}
            job = jobs.get(task.job)
            function = None if task.function is None else self._ref(task.function, peer)
            deps = [self._ref(ref, peer) for ref in task.deps]
            nested = [self._ref(ref, peer) for ref in task.nested]
            checkpoint = None if task.checkpoint is None else self._ref(task.checkpoint, peer)
            named = [ref for ref in (function, *deps, *nested, checkpoint) if ref is not None]
            refs += named
            is_untaken = self.is_leaving and task.actor is None  # the calls of its actors are still done here
            if is_untaken:
                untaken.append(task.id)
            may_be_known = bool(self._dead) and job is not None and not task.around
            known = self._known_results(peer, task) if may_be_known else []
            if job is None or known or is_untaken:  # the job has ended, and so will the task at the sender
                self.arena.note(peer.number, named)
                if known:
                    self._send(peer.number, messages.Results(known))
                continue
            need = task.needs
            actor = None if task.actor is None else self._ref(task.actor, peer)
            tasks.append(
                (task.id, job, function, task.payload, deps, nested, task.num_returns, need.cpu, need.gpu,
                 need.custom, task.attempt, task.retries, actor, task.after, task.interval,
                 task.around, checkpoint, task.turn)
            )  # fmt: skip
        self.arena.receive_tasks(peer.number, tasks)
        self._came_from(peer.number, refs)
        for _, job, function, *_ in tasks:
            if function is not None and function[1] != THIS_NODE:
                kept = self.functions[job]
                if function[0] not in kept and len(kept) < FUNCTIONS_KEPT:
                    kept[function[0]] = self.arena.foreign(function)
        if untaken:
            self._send(peer.number, messages.Untaken(untaken))

    def give_back_tasks(self) -> None:
        """Those of others that have not begun here."""
        for number in list(self.peers):
            untaken = self.arena.drop_received(number, self.arena.received(number))
            if untaken:
                self._send(number, messages.Untaken(untaken))

    def _on_untaken(self, peer: Peer, message: messages.Untaken) -> list[bytes]:
        self.arena.recall(peer.number, message.tasks)
        return message.tasks

    def _on_kill(self, peer: Peer, kill: messages.Kill) -> None:
        for raw in kill.actors:
            # The process that serves it is ended as when a driver of this node has killed it.
            self.arena.kill_actor(self.arena.foreign((raw, THIS_NODE)))
        self._send(peer.number, messages.Killed(kill.actors))

    def _on_killed(self, peer: Peer, killed: messages.Killed) -> None:
        for raw in killed.actors:
            self.arena.heard_of_end(peer.number, raw)

    def _known_results(self, peer: Peer, task: messages.Task) -> list[messages.Result]:
        """Of a task that was here before, for an incarnation of its node that is dead: what it returned has
        become this node's own, and somebody here has it. It is not made a second time."""
        ids = [task.id + index.to_bytes(4, "little") for index in range(task.num_returns)]
        oids = [self.arena.foreign((raw, peer.number)) for raw in ids]
        if not oids or any(self.arena.owner(oid) == peer.number for oid in oids):
            return []
        self.arena.lend(peer.number, oids)
        values = [self._value_for(peer.number, oid, (self.node,)) for oid in oids]
        return [value for value in values if value is not None]

    def _on_results(self, peer: Peer, results: messages.Results) -> list[bytes]:
        finished = []
        returned: list[tuple[bytes, int]] = []
        for result in results.results:
            nested = [self._ref(ref, peer) for ref in result.nested]
            fresh = self.arena.finish_return(
                peer.number,
                result.id,
                result.format,
                result.data,
                result.size,
                nested,
                result.failed,
                result.turn,
            )
            self._came_from(peer.number, nested)
            if not fresh or result.data is not None:
                returned.append((result.id, 1))
            if result.id.endswith(FIRST_RETURN):
                finished.append(result.id[: -len(FIRST_RETURN)])
        if returned:
            self._return(peer.number, returned)
        return finished

    # --- checkpoints of actors ---

    def _on_checkpoint(self, peer: Peer, told: messages.Checkpoint) -> None:
        self.checkpoints.on_told(self, peer, told)

    def send_to(self, peer: Peer, message: Message) -> None:
        self._send(peer.number, message)

    def noted(self, peer: Peer, raw: bytes) -> _kernel.ObjectID:
        """An object of that peer's, which it has lent to this node once more."""
        oid = self.arena.foreign((raw, peer.number))
        self.arena.note(peer.number, [(raw, peer.number)])
        self._came_from(peer.number, [(raw, peer.number)])
        return oid

    def small_value(self, number: int, oid: _kernel.ObjectID) -> messages.Result | None:
        """None: it is large, and to be asked for."""
        return self._value_for(number, oid)

    def take_value(self, peer: Peer, value: messages.Result, oid: _kernel.ObjectID) -> None:
        """It has come unasked."""
        nested = [self._ref(ref, peer) for ref in value.nested]
        held = [self.arena.foreign(ref) for ref in nested]
        self.arena.note(peer.number, nested)
        self._came_from(peer.number, nested)
        if value.data is not None:
            self._arrived(oid, value.format, value.data, held)

    def is_own_now(self, number: int, oid: _kernel.ObjectID) -> None:
        """What that peer has lent to this node is this node's."""
        raw = oid.binary()
        self._borrowed.discard(raw)
        self._give_back(number, [raw])

    def served_no_more(self, number: int, actor: bytes) -> None:
        """It is placed anew, and the peer need not keep anything of it."""
        self.arena.reclaim_actor(number, self.arena.foreign((actor, THIS_NODE)))
        self._return(number, [(actor[: -len(SERVED_INDEX)] + SERVED_INDEX, 1)])

    def want(self, oid: _kernel.ObjectID, owner: int) -> None:
        """An object of that peer's, whose value will be `NEWS_SEALED`."""
        if self.arena.subscribe(oid):
            self._want(oid.binary(), owner, owner)

    # --- values ---

    def _want(self, raw: bytes, owner: int, holder: int) -> None:
        holder = self.orphans.holder(raw, holder)
        if raw not in self._wanted and holder in self.peers:
            self._wanted[raw] = (owner, holder)
            self._send(holder, messages.Want([raw]))

    def _on_want(self, peer: Peer, want: messages.Want) -> None:
        values, places = [], []
        for raw in want.ids:
            oid = self.arena.foreign((raw, THIS_NODE))  # what is gone is a failure that says so
            location = self.arena.location(oid)
            if location is not None:
                places.append((raw, self.peers[location[0]].node))
            elif self.arena.is_ready(oid):
                value = self._value_for(peer.number, oid)
                if value is not None:
                    values.append(value)
                else:
                    self._share(raw, peer)
            elif (owner := self.arena.owner(oid)) != THIS_NODE:  # it was here once
                places.append((raw, self.peers[owner].node))
            elif self.arena.subscribe(oid):
                self._askers[raw].add(peer.number)
        if values:
            self._send(peer.number, messages.Values(values))
        if places:
            self._send(peer.number, messages.Elsewhere(places))

    def _value_for(
        self, peer: int, oid: _kernel.ObjectID, sources: tuple[bytes, ...] = ()
    ) -> messages.Result | None:
        """None: it is large, and the peer is to be told from whom to fetch it."""
        fmt, data = self.arena.get(oid, 0)
        small = len(data) <= messages.SMALL_VALUE_BYTES
        if not small and not sources:
            return None
        nested = [self._wire_ref(ref) for ref in self.arena.lend_nested(peer, oid)]
        value = with_node(fmt, data, self.label) if small else None
        return messages.Result(oid.binary(), fmt, value, len(data), nested, sources=list(sources))

    def _share(self, raw: bytes, peer: Peer) -> None:
        """Of a large value that is here: the peer is told its sources when it is its turn."""
        for source in self.spread.sources_of(raw, peer.node):
            if source != self.node:  # it asks again: the others have failed it
                self._name_sources(self.spread.lost(raw, source))
        self._name_sources([*self.spread.has(raw, self.node), *self.spread.asked(raw, peer.node)])

    def _name_sources(self, answers: list[Answer]) -> None:
        for answer in answers:
            peer = self.by_node.get(answer.receiver)
            oid = self.arena.foreign((answer.key, THIS_NODE))
            if peer is not None and self.arena.is_ready(oid):
                value = self._value_for(peer.number, oid, answer.sources)
                if value is not None:
                    self._send(peer.number, messages.Values([value]))

    def _end_sharing(self, raw: bytes, owner: int) -> None:
        """It is not here any more."""
        for node in self.spread.freed(raw):
            if node in self.by_node:
                place = self._wire_ref((raw, owner)).owner
                self._send(self.by_node[node].number, messages.Elsewhere([(raw, place)]))

    def _on_have(self, peer: Peer, have: messages.Have) -> None:
        for raw in have.ids:
            if self.spread.knows(raw):  # else it is no more
                self._name_sources(self.spread.has(raw, peer.node))

    def _on_values(self, peer: Peer, message: messages.Values) -> None:
        for value in message.values:
            nested = [self._ref(ref, peer) for ref in value.nested]
            held = [self.arena.foreign(ref) for ref in nested]
            self.arena.note(peer.number, nested)
            self._came_from(peer.number, nested)
            wanted = self._wanted.get(value.id)
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

    def on_pulled(
        self,
        value: messages.Result,
        oid: _kernel.ObjectID,
        nested: list[_kernel.ObjectID],
        block: _kernel.Block | None,
    ) -> None:
        """`block` None: it could not be had there; its owner is asked anew."""
        if block is not None:
            _, holder = self._wanted.get(value.id, (THIS_NODE, THIS_NODE))
            self._arrived(oid, value.format, block, nested)
            self._send(holder, messages.Have([value.id]))
            return
        self._named.pop(value.id, None)
        wanted = self._wanted.pop(value.id, None)
        if wanted is not None:
            self._want_anew(value.id, wanted[0])

    def _arrived(
        self, oid: _kernel.ObjectID, fmt: int, data: bytes | _kernel.Block, nested: list[_kernel.ObjectID]
    ) -> None:
        location = self.arena.location(oid)
        raw = self._name_at(oid, None if location is None else location[0])
        self._wanted.pop(raw, None)
        self._named.pop(raw, None)
        self.arena.seal(oid, data, fmt, nested)
        if location is not None:
            self._return(location[0], [(raw, 1)])

    def _name_at(self, oid: _kernel.ObjectID, holder: int | None) -> bytes:
        """What that peer, if it has it stored, knows it by."""
        raw = oid.binary()
        return around(raw) if holder is not None and holder == self.arena.owner(oid) else raw

    def _on_elsewhere(self, peer: Peer, message: messages.Elsewhere) -> None:
        for raw, node in message.places:
            if raw not in self._wanted:
                continue
            if node == self.node or node in self._dead:  # the peer has not heard that yet
                self.orphans.refused(raw, self._wanted[raw][0], peer.number)
                self._again[raw] = None
            else:
                owner, _ = self._wanted.pop(raw)
                self._want(raw, owner, self.peer_of(node).number)

    def take_over(self, raw: bytes, oid: _kernel.ObjectID, node: bytes) -> bool:
        """Asks for a value that `node`, which leaves, owns or has stored for this one, if it is not on its
        way. Whether there is, or may come, something to take."""
        peer = self.by_node.get(node)
        if peer is None or self.arena.is_ready(oid):
            return False
        owner, location = self.arena.owner(oid), self.arena.location(oid)
        holder = location[0] if location is not None else owner
        if peer.number not in (owner, holder):
            return owner == THIS_NODE  # whose result may be told of later
        self._want(raw, owner, holder)
        return True

    @property
    def is_to_ask(self) -> bool:
        """Whether the next tick does anything."""
        returns = any(peer.returns for peer in self.peers.values())
        return bool(self._again) or returns or self.spread.anybody_waits or bool(self.orphans)

    def tick(self) -> None:
        """Several times a second: values are asked for that could not be had; what is returned is said."""
        for peer in list(self.peers.values()):
            self._send_returns(peer)
        self._name_sources(self.spread.tick())
        again, self._again = self._again, {}
        for raw in again:
            wanted = self._wanted.pop(raw, None)
            if wanted is not None:
                self._want_anew(raw, wanted[0])
        self.orphans.tick(self._is_here)
        self._look_for_orphans()

    def _is_here(self, raw: bytes) -> bool:
        return self.arena.is_ready(self.arena.foreign((raw, THIS_NODE)))

    def _want_anew(self, raw: bytes, owner: int) -> None:
        """Of its owner; what is this node's own, where it is now."""
        oid = self.arena.foreign((as_owned(raw), owner))
        if not self.arena.is_ready(oid):
            location = self.arena.location(oid)
            holder = None if location is None else location[0]
            self._want(self._name_at(oid, holder), owner, owner if holder is None else holder)

    # --- news of the arena ---

    def on_news(self, news: "list[_kernel.News]") -> None:
        results: dict[int, list[messages.Result]] = defaultdict(list)
        returns: dict[int, list[tuple[bytes, int]]] = defaultdict(list)
        calls: list[tuple[_kernel.ObjectID, int, bytes | None]] = []
        checkpoints: list[tuple[int, bytes, int, _kernel.ObjectID, bool]] = []
        item: Any
        for item in news:
            kind = item[0]
            if kind == _kernel.NEWS_DONE:
                _, number, raw, fmt, data, size, nested, failed, turn = item
                refs = [self._wire_ref(ref) for ref in nested]
                if data is not None and fmt >= _kernel.FORMAT_ERROR:
                    data = with_node(fmt, data, self.label)
                results[number].append(messages.Result(raw, fmt, data, size, refs, failed, turn=turn))
            elif kind == _kernel.NEWS_GONE:
                _, raw, owner, noted, located = item
                there = around(raw) if located and located == owner else raw
                self._wanted.pop(there, None)
                self._named.pop(there, None)
                self._borrowed.discard(raw)
                self._borrowing.pop(raw, None)
                self._end_sharing(raw, owner)
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
                oid = item[1]
                owner = self.arena.owner(oid)
                location = self.arena.location(oid)
                if location is not None and location[0] in self.peers:
                    went = self.on_located(oid, self.peers[location[0]].node, location[1])
                    if went and not self.arena.is_wanted(oid):  # nothing waits for it here any more
                        continue
                holder = None if location is None else location[0]
                self._want(self._name_at(oid, holder), owner, owner if holder is None else holder)
            elif kind == _kernel.NEWS_SEALED:
                raw = item[1].binary()
                for number in self._askers.pop(raw, ()):
                    if number in self.peers:
                        self._on_want(self.peers[number], messages.Want([raw]))
                self.checkpoints.on_sealed(self)
        for number, finished in results.items():
            self._send(number, messages.Results(finished))
        for checkpoint in checkpoints:  # behind the results of the calls that they cover
            self.checkpoints.tell(self, *checkpoint)
        for number, returned in returns.items():
            self._return(number, returned)
        for actor, number, ends in calls:
            self.send_calls(actor, number, ends)

    _HANDLERS: ClassVar[Any] = {
        messages.Job: _on_job,
        messages.Run: _on_run,
        messages.Untaken: _on_untaken,
        messages.Kill: _on_kill,
        messages.Killed: _on_killed,
        messages.Results: _on_results,
        messages.Return: _on_return,
        messages.Borrow: _on_borrow,
        messages.Lent: _on_lent,
        messages.Want: _on_want,
        messages.Values: _on_values,
        messages.Elsewhere: _on_elsewhere,
        messages.Have: _on_have,
        messages.Checkpoint: _on_checkpoint,
        messages.AskCopies: _on_ask_copies,
        messages.Copies: _on_copies,
    }
