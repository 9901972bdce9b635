"""The head's own part of a cluster: who is there, what each has, who is dead."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from ray.control_store.nodes import NodeEntry
from ray.policy.cluster.membership import Action, AskPeers, Authority, Cause, Connect, DeclareDead
from ray.session.say import say
from ray.wire.messages import MAX_DEAD, Hello, Inquiry, Load, Message, NodeState, Resources, Sighting, View

REPEAT_MS = 1_000  # a view is sent this often even if nothing has changed: it says that the head is there
LEAST_MS = 100  # between two views, whatever changes

Entries = Mapping[bytes, NodeEntry]


class Table(Protocol):
    def write(self, node: bytes, entry: NodeEntry, done: Callable[[], None] | None = None) -> None:
        """Keeps it for the head after this one; `done` is called when that is sure."""


class NotKept:
    """A table for a head without a control store."""

    def write(self, node: bytes, entry: NodeEntry, done: Callable[[], None] | None = None) -> None:
        if done is not None:
            done()


class Deeds(Protocol):
    """What follows from a head's decisions."""

    def send(self, node: bytes, message: Message) -> None: ...

    def send_view(self, view: View) -> None:
        """To all members, this node included."""

    def want_link(self, node: bytes) -> None: ...

    def learn(self, node: bytes, address: str) -> None:
        """Where a node listens."""

    def bury(self, node: bytes, reason: str) -> None: ...


@dataclass(slots=True)
class _Member:
    address: str  # "": not known yet
    is_head: bool
    total: Resources  # as it said when it came, until it says more
    load: Load | None = None


class Head:
    """Used on the event loop's thread. What it decides is done by whoever made it."""

    def __init__(
        self, node: bytes, known: Collection[bytes], now_ms: int, deeds: Deeds, table: Table
    ) -> None:
        """`known` are members of the node manager before this one, which will come back, or fall silent."""
        self.node = node
        self.authority = Authority.restarted(node, list(known), {}, now_ms)
        self.members = {other: _Member("", False, Resources()) for other in known}
        self.deeds = deeds
        self.table = table
        self._number = 0
        self.has_changed = True
        self._sent_ms = now_ms

    def read(self, entries: Entries, now_ms: int) -> None:
        """What the head before this one has kept."""
        for node, entry in entries.items():
            if node == self.node:
                continue
            if entry.dead:
                self._known_dead(node, now_ms)
            elif node not in self.authority.dead:
                member = self.members.setdefault(node, _Member("", False, Resources()))
                member.address = member.address or entry.address
                self.deeds.learn(node, member.address)
                self.authority.known([node], now_ms)
                self.has_changed = True

    def _known_dead(self, node: bytes, now_ms: int) -> bool:
        """It was declared dead before; whether that is news here."""
        if node in self.authority.dead or node == self.node:
            return False
        self._do(self.authority.known_dead(node, Cause.EARLIER, now_ms))
        if node not in self.members:
            self.deeds.bury(node, Cause.EARLIER.value)
        self.has_changed = True
        return True

    def on_link_up(self, node: bytes, hello: Hello, now_ms: int) -> bool:
        """False: it was declared dead, which it does not know yet."""
        if node in self.authority.dead:
            return False
        member = self.members.get(node)
        if member is None:
            member = self.members[node] = _Member("", hello.is_head, hello.resources)
            self._do(self.authority.joined(node, None, now_ms))
        member.total = hello.resources
        if member.address != hello.address:
            member.address = hello.address
            self.table.write(node, NodeEntry(hello.address))
        self.authority.linked(node, now_ms)
        self.has_changed = True
        return True

    def on_link_down(self, node: bytes, now_ms: int) -> None:
        self._do(self.authority.unlinked(node, now_ms))

    def on_refused(self, node: bytes, now_ms: int) -> None:
        self._do(self.authority.refused(node, now_ms))

    def on_leaving(self, node: bytes, now_ms: int) -> None:
        """It has been drained."""
        self._do(self.authority.left(node, now_ms))

    def on_replaced(self, node: bytes, by: bytes, now_ms: int) -> None:
        """Where it listened there is another incarnation now."""
        self._do(self.authority.joined(by, node, now_ms))

    def on_sighting(self, reporter: bytes, sighting: Sighting, now_ms: int) -> None:
        self.authority.reported(reporter, sighting.about, sighting.silent_ms, now_ms)

    def on_renewal(self, reporter: bytes, node: bytes, now_ms: int) -> bool:
        """A node lives, says another; whether it is a member."""
        self.authority.reported(reporter, node, 0, now_ms)
        return node in self.members and node not in self.authority.dead

    def on_load(self, node: bytes, load: Load, now_ms: int) -> bool:
        """Whether the others are to hear of it."""
        for dead in load.dead:
            if self._known_dead(dead, now_ms) and dead not in self.members:
                self.table.write(dead, NodeEntry("", Cause.EARLIER.value))
        self.authority.heard(node, now_ms)
        member = self.members.get(node)
        if member is not None:
            self.has_changed = self.has_changed or member.load is None or _state(member.load) != _state(load)
            member.load = load
        return self.has_changed

    def tick(self, now_ms: int) -> None:
        """To be called every `LEAST_MS` while `has_changed`, else every `TICK_MS` of the authority."""
        self._do(self.authority.tick(now_ms))
        since_ms = now_ms - self._sent_ms
        if since_ms >= REPEAT_MS or (self.has_changed and since_ms >= LEAST_MS):
            self.has_changed = False
            self._sent_ms = now_ms
            self._number += 1
            self.deeds.send_view(self.view())

    def view(self) -> View:
        nodes = []
        for node, member in self.members.items():
            load = member.load
            if load is not None:
                ready = sum(demand.ready for demand in load.demands)
                nodes.append(
                    NodeState(
                        node, member.address, load.total, load.free, ready, load.draining, member.is_head
                    )
                )
            else:
                total = member.total
                nodes.append(NodeState(node, member.address, total, total, 0, False, member.is_head))
        buried = [node for node in self.authority.dead if node not in self.members]
        return View(self._number, nodes, buried[-MAX_DEAD:])

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, DeclareDead):
                self._declare(action)
            elif isinstance(action, Connect):
                self.deeds.want_link(action.node)
            elif isinstance(action, AskPeers):
                for peer in action.peers:
                    self.deeds.send(peer, Inquiry(action.about))

    def _declare(self, death: DeclareDead) -> None:
        """Nobody is told before the control store has it: the next head must not take it for alive."""
        node, reason = death.node, death.cause.value
        member = self.members.get(node)
        address = member.address if member is not None else ""

        def bury() -> None:
            self.members.pop(node, None)
            where = f" at {address}" if address else ""
            what = "has left" if death.cause is Cause.LEFT else f"is dead: {reason}"
            say(f"node {node.hex()[:8]}{where} {what}.")
            self.has_changed = True
            self.deeds.bury(node, reason)

        self.table.write(node, NodeEntry(address, reason), bury)


def _state(load: Load) -> tuple[object, ...]:
    return load.total, load.free, load.demands, load.draining
