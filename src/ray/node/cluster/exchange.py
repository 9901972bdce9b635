"""What node managers say to each other about tasks, ids and values: the protocol, without sockets or clock.

Events come in as calls (`on_...`); what follows are calls of the arena and messages to other nodes. The arena
holds all that must not be lost. What is kept here may be forgotten at any moment, and is made anew when a link
comes up: then both sides tell what they have of each other (`Sync`), and say nothing else before that is done.
So no message is acknowledged, and one that is lost with its link has never been sent.

Names: a *peer* is another node by its number in this arena; a *ref* is an id with the peer that owns it (0: this
node), on the wire with that node's id instead.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from ray import _kernel
from ray.wire import messages
from ray.wire.messages import Message

Ref = tuple[bytes, int]
Times = list[tuple[bytes, int]]

THIS_NODE = 0  # as the number of an owner


class Network(Protocol):
    def send(self, node: bytes, message: Message) -> None:
        """Queues it for a node whose link is up."""

    def want_link(self, node: bytes) -> None:
        """Brings a link up if there is none; `Exchange.on_link_up` tells."""


class Transfers(Protocol):
    def pull(self, source: bytes, value: messages.Result, oid: _kernel.ObjectID) -> None:
        """Brings a large value here and calls `Exchange.on_pulled`. Returns at once."""


class Jobs(Protocol):
    def describe(self, root: bytes) -> messages.Job:
        """What other nodes must know of a job that this node knows."""

    def learn(self, number: int, job: messages.Job) -> None:
        """Of a driver elsewhere, before the first of its tasks is here."""


@dataclass(slots=True)
class Peer:
    number: int
    node: bytes
    up: bool = False
    synced: bool = False  # it has told what it has of this node
    waiting: list[Message] = field(default_factory=list)  # until then
    told_jobs: set[bytes] = field(default_factory=set)
    guests: dict[bytes, int] = field(default_factory=dict)  # jobs of its drivers: their numbers here


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
        self._wanted: set[bytes] = set()  # asked for, or on their way
        self._askers: dict[bytes, set[int]] = defaultdict(set)  # peers that want what is not made yet
        self._borrowing: dict[bytes, int] = {}  # owners asked to confirm
        for number, node_id in arena.peers():
            self._add(number, node_id)
        for job, home, root in arena.guests():
            self.peers[home].guests[root] = job
        for id, owner in arena.unconfirmed():
            self._borrowing[id] = owner

    # --- peers ---

    def peer_of(self, node: bytes) -> Peer:
        """Made when the node is first heard of."""
        return self.by_node.get(node) or self._add(self.arena.enter_peer(node), node)

    def on_link_up(self, node: bytes) -> None:
        peer = self.peer_of(node)
        peer.up, peer.synced = True, False
        peer.waiting.clear()
        peer.told_jobs.clear()
        for askers in self._askers.values():
            askers.discard(peer.number)
        number = peer.number
        self.network.send(
            node, messages.Sync(self.arena.notes(number), self.arena.received(number), self.arena.drivers())
        )
        wanted = [id for id in self._wanted if (oid := self.arena.known(id)) and self._holder(oid) == number]
        if wanted:
            self._send(peer, messages.Want(wanted))
        self._ask_to_borrow(number, [id for id, owner in self._borrowing.items() if owner == number])

    def on_link_down(self, node: bytes) -> None:
        peer = self.peer_of(node)
        peer.up = peer.synced = False
        peer.waiting.clear()

    def on_death(self, node: bytes) -> None:
        """It is dead for good: its tasks run again, what only it had is lost, its jobs end here."""
        peer = self.by_node.pop(node, None)
        if peer is None:
            return
        del self.peers[peer.number]
        self.arena.bury_peer(peer.number)
        for askers in self._askers.values():
            askers.discard(peer.number)
        self._borrowing = {id: owner for id, owner in self._borrowing.items() if owner != peer.number}
        # What it had is asked of somebody else, if there is anybody; the rest has failed with it.
        wanted, self._wanted = self._wanted, set()
        self._want([oid for id in wanted if (oid := self.arena.known(id)) and not self.arena.is_ready(oid)])

    def _add(self, number: int, node: bytes) -> Peer:
        peer = self.peers[number] = self.by_node[node] = Peer(number, node)
        return peer

    def _send(self, peer: Peer, message: Message) -> None:
        """What is lost because there is no link is made good by `Sync`."""
        if peer.synced:
            self.network.send(peer.node, message)
        elif peer.up:
            peer.waiting.append(message)
        else:
            self.network.want_link(peer.node)

    def on_message(self, node: bytes, message: Message) -> None:
        peer = self.peer_of(node)
        if isinstance(message, messages.Sync):
            self._on_sync(peer, message)
        elif peer.synced:
            self._HANDLERS[type(message)](self, peer, message)

    def _on_sync(self, peer: Peer, sync: messages.Sync) -> None:
        arena, number = self.arena, peer.number
        arena.match_loans(number, sync.noted)
        there = set(sync.tasks)
        arena.recall(number, [task for task in arena.away(number) if task not in there])
        for root in [root for root in peer.guests if root not in set(sync.jobs)]:
            arena.bury_guest(peer.guests.pop(root))
        peer.synced = True
        waiting, peer.waiting = peer.waiting, []
        for message in waiting:
            self.network.send(peer.node, message)
        self._report(peer, [id for id, _ in sync.noted])

    # --- refs on the wire ---

    def _ref(self, ref: messages.Ref) -> Ref:
        id, owner = ref
        return id, THIS_NODE if owner == self.node else self.peer_of(owner).number

    def _wire_ref(self, ref: Ref) -> messages.Ref:
        id, owner = ref
        return id, self.node if owner == THIS_NODE else self.peers[owner].node

    def _wire_refs(self, refs: Iterable[Ref]) -> list[messages.Ref]:
        return [self._wire_ref(ref) for ref in refs]

    # --- borrowing ---

    def _came_from(self, sender: Peer, refs: Iterable[Ref]) -> None:
        """Ids that the arena has noted from this sender: their owners are asked to confirm, if they are others."""
        strangers: dict[int, list[bytes]] = defaultdict(list)
        confirmed = []
        for id, owner in refs:
            if owner in (THIS_NODE, sender.number):
                continue
            if self.arena.is_noted(owner, id):
                confirmed.append(id)
            elif id not in self._borrowing:
                self._borrowing[id] = owner
                strangers[owner].append(id)
        if confirmed:
            self._give_back(sender.number, confirmed)
        for owner, ids in strangers.items():
            self._ask_to_borrow(owner, ids)

    def _ask_to_borrow(self, owner: int, ids: list[bytes]) -> None:
        if ids:
            self._send(self.peers[owner], messages.Borrow(ids))

    def _give_back(self, sender: int, ids: list[bytes]) -> None:
        returned = self.arena.forget_notes(sender, ids)
        if returned:
            self._send(self.peers[sender], messages.Return(returned))

    def _on_borrow(self, peer: Peer, borrow: messages.Borrow) -> None:
        lent = self.arena.lend(peer.number, borrow.ids)
        known = set(lent)
        if lent:
            self._send(peer, messages.Lent(lent))
        if len(known) < len(borrow.ids):
            self._send(peer, messages.Lost([id for id in borrow.ids if id not in known]))

    def _on_lent(self, peer: Peer, lent: messages.Lent) -> None:
        self.arena.note(peer.number, [(id, peer.number) for id in lent.ids])
        for id in lent.ids:
            self._borrowing.pop(id, None)
        for other in self.peers.values():
            if other is not peer:
                self._give_back(other.number, lent.ids)

    def _on_return(self, peer: Peer, message: messages.Return) -> None:
        self.arena.take_back(peer.number, message.returned)

    # --- tasks ---

    def send_tasks(self, node: bytes, shape: int, count: int) -> int:
        """Sends so many ready tasks, if there are so many, to a node whose link is up; how many it was."""
        peer = self.by_node[node]
        if not peer.synced:
            return 0
        sent = self.arena.send_tasks(peer.number, shape, count)
        tasks = []
        for id, job, function, payload, deps, nested, num_returns, cpu, gpu, custom, attempt, retries in sent:
            home, root = self.arena.job_root(job)
            if root not in peer.told_jobs:
                peer.told_jobs.add(root)
                self._send(peer, self.jobs.describe(root))
            tasks.append(
                messages.Task(
                    id=id,
                    job=root,
                    job_home=self.node if home == THIS_NODE else self.peers[home].node,
                    function=None if function is None else self._wire_ref(function),
                    payload=payload,
                    deps=self._wire_refs(deps),
                    nested=self._wire_refs(nested),
                    num_returns=num_returns,
                    needs=(cpu, gpu, custom),
                    attempt=attempt,
                    retries=retries,
                )
            )
        if tasks:
            self._send(peer, messages.Run(tasks))
        return len(tasks)

    def _on_job(self, peer: Peer, job: messages.Job) -> None:
        home = self.peer_of(job.home)
        if job.ended:
            number = home.guests.pop(job.root, None)
            if number is not None:
                self.arena.bury_guest(number)
        elif home.node != self.node and job.root not in home.guests:
            number = home.guests[job.root] = self.arena.enter_guest(home.number, job.root)
            self.jobs.learn(number, job)

    def on_job_end(self, root: bytes) -> None:
        """A driver of this node has ended."""
        for peer in self.peers.values():
            if root in peer.told_jobs:
                peer.told_jobs.discard(root)
                self._send(peer, messages.Job(root=root, home=self.node, ended=True))

    def _on_run(self, peer: Peer, run: messages.Run) -> None:
        tasks: list[_kernel.SentTask] = []
        refs: list[Ref] = []
        for task in run.tasks:
            number = self._job_number(task)
            if number is None:  # it has ended; the sender's own end of the job fails the task there
                continue
            function = None if task.function is None else self._ref(task.function)
            deps = [self._ref(ref) for ref in task.deps]
            nested = [self._ref(ref) for ref in task.nested]
            if function is not None:
                refs.append(function)
            refs += deps
            refs += nested
            tasks.append(
                (task.id, number, function, task.payload, deps, nested, task.num_returns, *task.needs,
                 task.attempt, task.retries)
            )  # fmt: skip
        self.arena.receive_tasks(peer.number, tasks)
        self._came_from(peer, refs)

    def _job_number(self, task: messages.Task) -> int | None:
        if task.job_home == self.node:
            return self.arena.driver_job(task.job)
        return self.peer_of(task.job_home).guests.get(task.job)

    def _on_results(self, peer: Peer, results: messages.Results) -> None:
        done: Times = []
        for result in results.results:
            nested = [self._ref(ref) for ref in result.nested]
            fresh = self.arena.finish_return(
                peer.number, result.id, result.format, result.data, result.size, nested
            )
            if not fresh:
                done += [(id, 1) for id, owner in nested if owner != THIS_NODE]
            elif nested:
                self._came_from(peer, nested)
            if not fresh or result.data is not None:
                done.append((result.id, 1))
        if done:
            self._send(peer, messages.Return(done))

    def _report(self, peer: Peer, ids: list[bytes]) -> None:
        """Results that the peer waits for and that are here, after a link was lost."""
        found = [
            (id, value)
            for id in ids
            if (oid := self.arena.known(id)) is not None
            and self.arena.owner(oid) == peer.number
            and (value := self.arena.value_for(peer.number, oid)) is not None
        ]
        if found:
            self._send(peer, messages.Results([self._result(id, *value) for id, value in found]))

    def _result(self, id: bytes, fmt: int, data: bytes | None, size: int, nested: list[Ref]) -> messages.Result:
        return messages.Result(id, fmt, data, size, self._wire_refs(nested))

    # --- values ---

    def _holder(self, oid: _kernel.ObjectID) -> int:
        """The peer to ask for a value that is not here."""
        location = self.arena.location(oid)
        return location[0] if location is not None else self.arena.owner(oid)

    def _want(self, oids: Iterable[_kernel.ObjectID]) -> None:
        asked: dict[int, list[bytes]] = defaultdict(list)
        for oid in oids:
            id = oid.binary()
            holder = self._holder(oid)
            if id not in self._wanted and holder != THIS_NODE and holder in self.peers:
                self._wanted.add(id)
                asked[holder].append(id)
        for holder, ids in asked.items():
            self._send(self.peers[holder], messages.Want(ids))

    def _on_want(self, peer: Peer, want: messages.Want) -> None:
        values, elsewhere, lost = [], [], []
        for id in want.ids:
            oid = self.arena.known(id)
            if oid is None:
                lost.append(id)
            elif (value := self.arena.value_for(peer.number, oid)) is not None:
                values.append(self._result(id, *value))
            elif (location := self.arena.location(oid)) is not None:
                elsewhere.append((id, self.peers[location[0]].node))
            elif self.arena.subscribe(oid):
                self._askers[id].add(peer.number)
        if values:
            self._send(peer, messages.Values(values))
        if elsewhere:
            self._send(peer, messages.Elsewhere(elsewhere))
        if lost:
            self._send(peer, messages.Lost(lost))

    def _on_values(self, peer: Peer, message: messages.Values) -> None:
        unused: Times = []
        for value in message.values:
            nested = [self._ref(ref) for ref in value.nested]
            oid = self.arena.known(value.id) if value.id in self._wanted else None
            if oid is None:  # it has come another way, or nobody wants it any more
                unused += [(id, 1) for id, owner in nested if owner != THIS_NODE]
                continue
            self.arena.note(peer.number, nested)
            self._came_from(peer, nested)
            if value.data is None:
                self.transfers.pull(peer.node, value, oid)
            else:
                self._arrived(oid, value.format, value.data, nested)
        if unused:
            self._send(peer, messages.Return(unused))

    def on_pulled(
        self, oid: _kernel.ObjectID, value: messages.Result, block: _kernel.Block | None
    ) -> None:
        """`block` None: it could not be had; it is asked for anew."""
        if block is not None:
            self._arrived(oid, value.format, block, [self._ref(ref) for ref in value.nested])
        elif value.id in self._wanted:
            self._wanted.discard(value.id)
            self._want([oid])

    def _arrived(
        self, oid: _kernel.ObjectID, fmt: int, data: bytes | _kernel.Block, nested: list[Ref]
    ) -> None:
        id = oid.binary()
        self._wanted.discard(id)
        location = self.arena.location(oid)
        self.arena.seal(oid, data, fmt, [self.arena.foreign(ref) for ref in nested])
        if location is not None and location[0] in self.peers:
            self._send(self.peers[location[0]], messages.Return([(id, 1)]))

    def _on_elsewhere(self, peer: Peer, message: messages.Elsewhere) -> None:
        asked: dict[bytes, list[bytes]] = defaultdict(list)
        for id, node in message.places:
            if id in self._wanted:
                asked[node].append(id)
        for node, ids in asked.items():
            self._send(self.peer_of(node), messages.Want(ids))

    def _on_lost(self, peer: Peer, message: messages.Lost) -> None:
        for id in message.ids:
            self._wanted.discard(id)
            oid = self.arena.known(id)
            if oid is None:
                continue
            if self.arena.owner(oid) == peer.number:
                self._borrowing.pop(id, None)
                self.arena.lose(oid)
            else:  # it has been moved since; its owner knows where to
                self._want([oid])

    # --- news of the arena ---

    def on_news(self, news: list[_kernel.News]) -> None:
        results: dict[int, list[messages.Result]] = defaultdict(list)
        returns: dict[int, Times] = defaultdict(list)
        wanted = []
        for item in news:
            if item[0] == _kernel.NEWS_DONE:
                _, number, id, fmt, data, size, nested = item
                if number in self.peers:
                    results[number].append(self._result(id, fmt, data, size, nested))
            elif item[0] == _kernel.NEWS_GONE:
                _, id, _, noted, located = item
                self._wanted.discard(id)
                self._borrowing.pop(id, None)
                for number, times in noted:
                    returns[number].append((id, times))
                if located:
                    returns[located].append((id, 1))
            elif item[0] == _kernel.NEWS_WANTED:
                wanted.append(item[1])
            elif item[0] == _kernel.NEWS_SEALED:
                self._tell_askers(item[1])
        for number, finished in results.items():
            self._send(self.peers[number], messages.Results(finished))
        for number, returned in returns.items():
            if number in self.peers:
                self._send(self.peers[number], messages.Return(returned))
        self._want(wanted)

    def _tell_askers(self, oid: _kernel.ObjectID) -> None:
        id = oid.binary()
        for number in self._askers.pop(id, ()):
            if number in self.peers:
                self._on_want(self.peers[number], messages.Want([id]))

    _HANDLERS = {
        messages.Job: _on_job,
        messages.Run: _on_run,
        messages.Results: _on_results,
        messages.Return: _on_return,
        messages.Borrow: _on_borrow,
        messages.Lent: _on_lent,
        messages.Want: _on_want,
        messages.Values: _on_values,
        messages.Elsewhere: _on_elsewhere,
        messages.Lost: _on_lost,
    }
