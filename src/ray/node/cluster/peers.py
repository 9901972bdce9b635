"""The other nodes, as an exchange knows them, and what is said to them.

A *peer* is another node by its number in this arena.
"""

from dataclasses import dataclass, field
from typing import Protocol

from ray import _kernel
from ray.node.cluster.ids import THIS_NODE, Ref
from ray.wire import messages
from ray.wire.messages import Message


class Network(Protocol):
    def send(self, node: bytes, message: Message) -> None:
        """Queues it for a node whose link is up."""

    def want_link(self, node: bytes) -> None:
        """Brings a link up if there is none; `Exchange.on_link_up` tells."""


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

    def unlinked(self) -> None:
        """What was said over its link, or was to be, is told anew with the next one."""
        self.up = self.synced = False
        self.waiting.clear()
        self.returns.clear()
        self.heard.clear()
        self.told_jobs.clear()


class Peers:
    def __init__(self, arena: _kernel.Arena, node: bytes, network: Network) -> None:
        self.arena = arena
        self.node = node
        self.network = network
        self.label = ""  # how failures name this node to others
        self.by_number: dict[int, Peer] = {}
        self.by_node: dict[bytes, Peer] = {}  # without those that are dead
        self.dead: dict[bytes, str] = {}  # what they are called to users
        for number, node_id in arena.peers():
            self._add(number, node_id)
        for job, home, root in arena.guests():
            self.by_number[home].guests[root] = job

    def of(self, node: bytes) -> Peer:
        """Made when the node is first heard of."""
        return self.by_node.get(node) or self._add(self.arena.enter_peer(node), node)

    def _add(self, number: int, node: bytes) -> Peer:
        peer = self.by_number[number] = self.by_node[node] = Peer(number, node)
        return peer

    def died(self, node: bytes, name: str) -> Peer | None:
        """Nothing is said to it any more. Its number stays until it is buried."""
        self.dead[node] = name
        return self.by_node.pop(node, None)

    def want_links(self) -> None:
        """With all nodes that there is anything with: what was lost with a link may be waited for."""
        for peer in self.by_number.values():
            if not peer.up and peer.node not in self.dead:
                self.network.want_link(peer.node)

    # --- what is said ---

    def send(self, number: int, message: Message) -> None:
        """What is lost because there is no link is made good by `Sync`."""
        peer = self.by_number.get(number)
        if peer is None or peer.node in self.dead:
            return
        if peer.synced:
            if peer.returns:
                self.send_returns(peer)
            self.network.send(peer.node, message)
        elif peer.up:
            # Results lend ids, and the peer's Sync takes back what it has not heard of; then they are news
            # again.
            if not isinstance(message, messages.Results):
                peer.waiting.append(message)
        else:
            self.network.want_link(peer.node)

    def tell(self, node: bytes, message: Message) -> bool:
        """For what is no part of this protocol. False: there is no link with Syncs from both sides."""
        peer = self.by_node.get(node)
        if peer is None or not peer.synced:
            return False
        self.network.send(node, message)
        return True

    def give_back(self, number: int, counts: list[tuple[bytes, int]]) -> None:
        """Soon: nobody waits for it, and alone it would wake the peer up."""
        if number in self.by_number:
            self.by_number[number].returns += counts

    def send_returns(self, peer: Peer) -> None:
        if peer.returns:
            returns, peer.returns = peer.returns, []
            self.send(peer.number, messages.Return(returns))

    # --- refs on the wire ---

    def ref(self, ref: messages.Ref, sender: Peer) -> Ref:
        if ref.owner == self.node:
            return ref.id, THIS_NODE
        # What a dead node owned is the sender's, or soon will be.
        owner = sender if ref.owner in self.dead else self.of(ref.owner)
        return ref.id, owner.number

    def wire_ref(self, ref: Ref) -> messages.Ref:
        raw, owner = ref
        return messages.Ref(raw, self.node if owner == THIS_NODE else self.by_number[owner].node)

    # --- jobs of other nodes' drivers ---

    def guest(self, job: int) -> tuple[bytes, bytes] | None:
        """Node and root id of another node's driver, by its number here."""
        guests = ((peer.node, *each) for peer in self.by_number.values() for each in peer.guests.items())
        return next(((node, root) for node, root, number in guests if number == job), None)

    def number(self, home: bytes, root: bytes) -> int | None:
        """The other way round."""
        peer = self.by_node.get(home)
        return None if peer is None else peer.guests.get(root)
