"""A node that leaves in good order (`Departure`), and what others do for one that does (`Takeover`).

When, and what is still in the way, decides `ray.policy.cluster.draining`. That this node leaves stands in its
session's record, so that a new node manager goes on with it and drivers are not admitted any more.

Actors with checkpoints that this node serves for others leave before it: each saves its state between two
calls, and goes on where its owner places it. Not handed over are actors without, nor any that this node owns.
Calls of those that have come are done, since they count as tasks; who calls later is told that the actor's
node is gone.
"""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from ray import _kernel
from ray.core import leaving
from ray.core.logs import of_job, open_log
from ray.node.cluster.exchange import Exchange
from ray.node.cluster.ids import THIS_NODE, as_owned
from ray.policy.cluster.draining import Drain, Leave, Offer, Seen
from ray.session.record import SessionRecord
from ray.session.say import say
from ray.wire import messages
from ray.wire.messages import Message

LOOK_MS = 20  # between two looks at least
LOOK_SHARE = 10  # and ten times as long as the last one took: so many ids may be lent that it takes long
STDERR = 2
TAKEN_AT_ONCE = 10_000  # ids in one message


class Departure:
    """This node's own. Used on the event loop's thread."""

    def __init__(
        self,
        arena: _kernel.Arena,
        exchange: Exchange,
        send: Callable[[bytes, Message], None],
        leave: Callable[[], None],
        by_ms: int | None,
        clock_s: Callable[[], float] = time.monotonic,
        has_no_head: Callable[[], bool] = lambda: False,
    ) -> None:
        """`leave` is called once: when all is in other hands, or the time is over. `by_ms` stands in the
        record already if a node manager before this one has begun. `clock_s` measures how long looking
        takes. Who is not linked when there is no head any more takes nothing over: nobody will bring the two
        together, nor say that one of them is dead."""
        self.arena = arena
        self.exchange = exchange
        self.send = send
        self.leave = leave
        self._clock_s = clock_s
        self._has_no_head = has_no_head
        self._drain: Drain | None = None
        self._told: set[int] = set()  # jobs whose drivers know
        self._asked: set[_kernel.ObjectID] = set()  # actors that are to leave
        self._next_ms = 0
        if by_ms is not None:
            self._begin_by(by_ms)

    @property
    def is_under_way(self) -> bool:
        return self._drain is not None

    def begin(self, timeout_ms: int, now_ms: int) -> None:
        """This node is to leave within so much time. A second call can only bring the end nearer."""
        by_ms = now_ms + timeout_ms
        record = SessionRecord.load(self.arena.session())
        if record.leaves_by_ms is None or by_ms < record.leaves_by_ms:
            say(f"this node is being drained, and leaves within {timeout_ms / 1000:g} s.")
            reason = "The node that this driver had joined was drained, and has left the cluster."
            self.arena.set_session(dataclasses.replace(record, leaves_by_ms=by_ms, ended=reason).dump())
            self._begin_by(by_ms)

    def _begin_by(self, by_ms: int) -> None:
        if self._drain is None:
            self._drain = Drain(by_ms)
        self._drain.deadline_ms = by_ms
        self.exchange.tasks.is_leaving = True
        self.exchange.tasks.give_back()

    def on_taken(self, node: bytes, message: messages.Taken) -> None:
        if self._drain is not None:
            self._drain.taken(node, message.ids)
            self._next_ms = 0

    def on_return(self, node: bytes, message: messages.Return) -> None:
        if self._drain is not None:
            self._drain.returned(node, [raw for raw, _ in message.counts])

    def on_link_down(self, node: bytes) -> None:
        if self._drain is not None:
            self._drain.unlinked(node)

    def tick(self, now_ms: int) -> None:
        """To be called several times a second."""
        if self._drain is None or now_ms < self._next_ms:
            return
        self._tell_drivers(self._drain.deadline_ms - now_ms)
        self._ask_actors()
        began_s = self._clock_s()
        for action in self._drain.look(self._seen(), now_ms):
            if isinstance(action, Offer):
                if self.exchange.peers.by_node[action.node].up:
                    self.send(action.node, messages.Offer(list(action.ids)))
                else:  # again when there is a link
                    self._drain.unlinked(action.node)
            else:
                say(_described(action))
                self._drain = None
                self.leave()
                return
        took_ms = (self._clock_s() - began_s) * 1000
        self._next_ms = now_ms + max(LOOK_MS, int(LOOK_SHARE * took_ms))

    def _seen(self) -> Seen:
        """In the order that `Seen` asks for."""
        arena, peers = self.arena, list(self.exchange.peers.by_node.values())
        drivers = len(arena.drivers())
        away = sum(len(arena.away(peer.number)) for peer in peers)
        gone = [peer for peer in peers if not peer.up] if self._has_no_head() else []
        theirs = sum(len(arena.received(peer.number)) for peer in gone)  # which nobody waits for any more
        tasks = max(0, arena.stats()["tasks"] - away - theirs)
        peers = [peer for peer in peers if peer not in gone]
        unreturned = sum(len(arena.received(peer.number)) for peer in peers)
        # To a node whose link is down nothing can be said, but what it has of this one counts.
        lent: dict[bytes, list[bytes]] = {}
        own: set[bytes] = set()
        for peer in peers:
            owners = [(raw, self._owner(raw)) for raw, _ in arena.loans(peer.number)]
            # Of a third node's it is no source: who has let go of one meanwhile would take this node for its
            # owner when it hears of it again.
            lent[peer.node] = [raw for raw, owner in owners if owner in (THIS_NODE, peer.number)]
            own.update(raw for raw, owner in owners if owner == THIS_NODE)
        return Seen(tasks, drivers, unreturned, lent, frozenset(own))

    def _ask_actors(self) -> None:
        """By a call like others: so it comes between two of these, and no state is half made."""
        served = set(self.arena.served_actors())
        for actor in served - self._asked:
            self.arena.call(actor, leaving.PAYLOAD, None, None, 0)
        self._asked = served

    def _owner(self, raw: bytes) -> int:
        return self.arena.owner(self.arena.foreign((raw, THIS_NODE)))

    def _tell_drivers(self, left_ms: int) -> None:
        """As a line among what their tasks print."""
        folder = SessionRecord.load(self.arena.session()).logs
        for job, _ in self.arena.drivers():
            if job in self._told:
                continue
            self._told.add(job)
            line = (
                f"ray: the node that this driver has joined is being drained. It ends with it, in "
                f"{max(0, left_ms) / 1000:.0f} s at the latest; join another node of the cluster to go on.\n"
            )
            with contextlib.suppress(OSError):
                log = open_log(folder, of_job(job, STDERR))
                try:
                    os.write(log, line.encode())
                finally:
                    os.close(log)


def _described(end: Leave) -> str:
    if end.is_clean:
        return "this node is drained: others have all that they need of it. It leaves."
    return (
        f"the time to drain this node is over. It leaves with {end.tasks} tasks that are not done, "
        f"{end.drivers} drivers, and {end.objects} values that others have not taken."
    )


class Takeover:
    """Of what other nodes that leave have for this one."""

    def __init__(self, exchange: Exchange, send: Callable[[bytes, Message], None]) -> None:
        self.exchange = exchange
        self.send = send
        self._wanted: dict[bytes, dict[bytes, _kernel.ObjectID]] = {}  # by who leaves: ids, kept alive

    @property
    def is_under_way(self) -> bool:
        return bool(self._wanted)

    def on_offer(self, node: bytes, offer: messages.Offer) -> None:
        peer = self.exchange.peers.by_node.get(node)
        if peer is not None:
            foreign = self.exchange.arena.foreign
            self._wanted.setdefault(node, {}).update(
                (raw, foreign((as_owned(raw), peer.number))) for raw in offer.ids
            )

    def on_link_down(self, node: bytes) -> None:
        """It offers anew, or is dead."""
        self._wanted.pop(node, None)

    def tick(self) -> None:
        for node, wanted in list(self._wanted.items()):
            taken = [raw for raw, oid in wanted.items() if not self.exchange.wanted.take_over(raw, oid, node)]
            for raw in taken:
                del wanted[raw]
            for ids in _pieces(taken):
                self.send(node, messages.Taken(ids))
            if not wanted:
                del self._wanted[node]


def _pieces(ids: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest = iter(ids)
    while piece := list(islice(rest, TAKEN_AT_ONCE)):
        yield piece
