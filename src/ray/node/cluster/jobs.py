"""What node managers tell each other of jobs: of each before its first task, and of its end."""

from collections import defaultdict
from typing import Protocol

from ray import _kernel
from ray.node.cluster.ids import THIS_NODE
from ray.node.cluster.peers import Peer, Peers
from ray.wire import messages

FUNCTIONS_KEPT = 1_000  # of one job


class Guests(Protocol):
    def describe(self, root: bytes) -> messages.Job:
        """What other nodes must know of a job that this node knows."""

    def learn(self, number: int, job: messages.Job) -> None:
        """Of a driver elsewhere, before the first of its tasks is here."""

    def ended(self) -> None:
        """Of drivers elsewhere some have ended."""


class Jobs:
    def __init__(self, arena: _kernel.Arena, peers: Peers, guests: Guests) -> None:
        self.arena = arena
        self.peers = peers
        self.guests = guests
        # Functions of other nodes' jobs: else each would go with its last task here, and come again with the
        # next.
        self.functions: dict[int, dict[bytes, _kernel.ObjectID]] = defaultdict(dict)

    def tell(self, peer: Peer, root: bytes) -> None:
        """Before it hears of the first of its tasks."""
        peer.told_jobs.add(root)
        self.peers.send(peer.number, self.guests.describe(root))

    def on_job(self, peer: Peer, job: messages.Job) -> None:
        if job.home in self.peers.dead:  # which the peer will hear as well
            return
        home = self.peers.of(job.home)
        if job.ended:
            number = home.guests.pop(job.root_id, None)
            if number is not None:
                self._bury(number)
                self._tell_end(job)
        elif job.home != self.peers.node and job.root_id not in home.guests:
            number = home.guests[job.root_id] = self.arena.enter_guest(home.number, job.root_id)
            self.guests.learn(number, job)

    def keep_functions(self, tasks: "list[_kernel.SentTask]") -> None:
        """Of those that have come."""
        for _, job, function, *_ in tasks:
            if function is not None and function[1] != THIS_NODE:
                kept = self.functions[job]
                if function[0] not in kept and len(kept) < FUNCTIONS_KEPT:
                    kept[function[0]] = self.arena.foreign(function)

    def synced(self, peer: Peer, living: set[bytes]) -> None:
        """These are its drivers' jobs; the others have ended."""
        for root in [root for root in peer.guests if root not in living]:
            self._bury(peer.guests.pop(root))

    def _bury(self, job: int) -> None:
        self.functions.pop(job, None)
        self.arena.bury_guest(job)
        self.guests.ended()

    def on_ended(self) -> None:
        """Drivers of this node have ended."""
        living = {root for _, root in self.arena.drivers()}
        for peer in self.peers.by_number.values():
            living.update(peer.guests)
        for root in {root for peer in self.peers.by_number.values() for root in peer.told_jobs} - living:
            self._tell_end(messages.Job(root, self.peers.node, [], True))

    def _tell_end(self, job: messages.Job) -> None:
        """To all nodes that this one has sent tasks of the job."""
        for peer in self.peers.by_number.values():
            if job.root_id in peer.told_jobs:
                peer.told_jobs.discard(job.root_id)
                self.peers.send(peer.number, job)

    def bury(self, peer: Peer) -> None:
        """The node, and with it its drivers' jobs."""
        for job in peer.guests.values():
            self.functions.pop(job, None)
        self.arena.bury_peer(peer.number)
        self.guests.ended()
