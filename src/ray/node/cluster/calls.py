"""Calls to actors that another node serves, and the end of such an actor.

A call travels as a task does (`Tasks`); how calls of one caller stay in order is the arena's matter.
"""

from ray import _kernel
from ray.node.cluster.ids import THIS_NODE
from ray.node.cluster.peers import Peer, Peers
from ray.node.cluster.tasks import Tasks
from ray.wire import messages

CALLS_AT_ONCE = 512  # to one actor, before others have their turn


class ActorCalls:
    def __init__(self, arena: _kernel.Arena, peers: Peers, tasks: Tasks) -> None:
        self.arena = arena
        self.peers = peers
        self.tasks = tasks

    def send(self, actor: _kernel.ObjectID, number: int, ends: bytes | None) -> None:
        """What is to be told to the node that serves an actor (`NEWS_CALLS`); without a link it is news again
        with the next one."""
        peer = self.peers.by_number.get(number)
        if peer is None:
            return
        if not peer.synced:
            self.peers.network.want_link(peer.node)
            return
        if ends is not None:
            self.peers.send(number, messages.Kill([ends]))
        self.tasks.run(peer, self.arena.send_calls(number, actor, CALLS_AT_ONCE))

    def on_kill(self, peer: Peer, kill: messages.Kill) -> None:
        for raw in kill.actors:
            # The process that serves it is ended as when a driver of this node has killed it.
            self.arena.kill_actor(self.arena.foreign((raw, THIS_NODE)))
        self.peers.send(peer.number, messages.Killed(kill.actors))

    def on_killed(self, peer: Peer, killed: messages.Killed) -> None:
        for raw in killed.actors:
            self.arena.heard_of_end(peer.number, raw)
