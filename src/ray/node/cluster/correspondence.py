"""What drivers and their tasks on other nodes have to say to each other beside results: what is printed and
what fails (`ray.node.cluster.notes`), and the code of scripts (`ray.node.cluster.codes`)."""

from collections.abc import Callable

from ray import _kernel
from ray.node.cluster.codes import Codes
from ray.node.cluster.notes import Hearing, Telling
from ray.node.cluster.peers import Peers
from ray.wire.identity import Identity


class Correspondence:
    def __init__(
        self,
        arena: _kernel.Arena,
        peers: Peers,
        logs: str,
        identity: Identity,
        address_of: Callable[[bytes], str | None],
        name_of: Callable[[bytes], str],
    ) -> None:
        """`address_of` a node is where it is reached, `name_of` what its lines begin with."""
        self.arena = arena
        self.peers = peers
        self.telling = Telling(arena, logs, peers.tell, peers.label)
        self.hearing = Hearing(arena, logs, peers.tell, name_of)
        self.codes = Codes(arena, peers.node, logs, peers.tell, peers, identity, address_of)

    def follow(self) -> None:
        """Drivers of other nodes have begun here, or ended. To be called before anything of theirs runs."""
        peers = self.peers.by_number.values()
        self.telling.follow({(peer.node, root): job for peer in peers for root, job in peer.guests.items()})

    def tell(self, now_ms: int, at_once: bool = False) -> None:
        """To drivers of other nodes what their tasks here have printed, and what has failed."""
        self.telling.look(now_ms, at_once)

    def on_jobs_ended(self) -> None:
        """Of whatever node's drivers."""
        self.hearing.on_jobs_ended()
        jobs = {job for job, _ in self.arena.drivers()} | {job for job, _, _ in self.arena.guests()}
        self.codes.forget(jobs)

    def tick(self, now_ms: int) -> None:
        """To be called several times a second."""
        self.hearing.tick(now_ms)
        self.follow()
        self.tell(now_ms)
        self.codes.look()

    async def close(self) -> None:
        self.telling.close()
        await self.codes.close()
