"""The head's own part of a cluster: who is there, what each has, who is dead."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from ray.control_store.nodes import NodeEntry
from ray.policy.cluster.membership import Action, AskPeers, Authority, Cause, Connect, DeclareDead
from ray.policy.cluster.views import REPEAT_MS, Board, Edition, least_ms
from ray.session.say import say
from ray.wire.messages import MAX_DEAD, Hello, Inquiry, Load, Message, NodeState, Resources, Sighting, View

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

    def send_view(self, view: View, readers: list[bytes]) -> None:
        """To these members; this node may be among them."""

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
        self.members: dict[bytes, _Member] = {}
        self.board = Board()
        self.deeds = deeds
        self.table = table
        self.has_changed = True
        for other in known:
            self._add(other, _Member("", False, Resources()))
        self._sent_ms = now_ms

    def read(self, entries: Entries, now_ms: int) -> None:
        """What the head before this one has kept."""
        for node, entry in entries.items():
            if node == self.node:
                continue
            if entry.dead:
                self._known_dead(node, now_ms)
            elif node not in self.authority.dead:
                self._known(node, entry.address, now_ms)

    def on_missed(self, node: bytes, states: list[NodeState], now_ms: int) -> list[bytes]:
        """A member misses these in this head's view; returns those that are dead. The others were members
        under the head before this one, which has left nothing behind: they come, or are looked for."""
        if node not in self.members:
            return []
        dead = []
        for state in states:
            missed = state.node_id
            if missed == self.node or missed in self.members:
                continue
            if missed in self.authority.dead:
                dead.append(missed)
                continue
            self._known(missed, state.address, now_ms)
            if state.address:
                self.table.write(missed, NodeEntry(state.address))
        return dead

    def _known(self, node: bytes, address: str, now_ms: int) -> None:
        """A member under the head before this one."""
        member = self.members.get(node) or _Member("", False, Resources())
        member.address = member.address or address
        self._add(node, member)
        if member.address:
            self.deeds.learn(node, member.address)
        self.authority.known([node], now_ms)

    def _known_dead(self, node: bytes, now_ms: int) -> bool:
        """It was declared dead before; whether that is news here."""
        if node in self.authority.dead or node == self.node:
            return False
        self._do(self.authority.known_dead(node, Cause.EARLIER, now_ms))
        if node not in self.members:
            self._remove(node)
            self.deeds.bury(node, Cause.EARLIER.value)
        return True

    def _add(self, node: bytes, member: _Member) -> None:
        """It is new, or to be found elsewhere."""
        self.members[node] = member
        self.board.come(node)
        self.has_changed = True

    def _remove(self, node: bytes) -> None:
        self.members.pop(node, None)
        self.board.go(node)
        self.has_changed = True

    def on_link_up(self, node: bytes, hello: Hello, now_ms: int) -> bool:
        """False: it was declared dead, which it does not know yet."""
        if node in self.authority.dead:
            return False
        member = self.members.get(node)
        if member is None:
            member = _Member("", hello.is_head, hello.resources)
            self._add(node, member)
            self._do(self.authority.joined(node, None, now_ms))
        member.total = hello.resources
        if member.address != hello.address:
            member.address = hello.address
            self._add(node, member)
            self.table.write(node, NodeEntry(hello.address))
        self.authority.linked(node, now_ms)
        self.board.change(node)
        self.board.begin(node)
        self.has_changed = True
        return True

    def on_link_down(self, node: bytes, now_ms: int) -> None:
        self.board.end(node)
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
            if member.load is None or _state(member.load) != _state(load):
                self.board.change(node)
                self.has_changed = True
            member.load = load
        return self.has_changed

    def tick(self, now_ms: int) -> None:
        """To be called every `views.LEAST_MS` while `has_changed`, else every `TICK_MS` of the authority."""
        self._do(self.authority.tick(now_ms))
        since_ms = now_ms - self._sent_ms
        if since_ms >= REPEAT_MS or (self.has_changed and since_ms >= least_ms(len(self.members))):
            self.has_changed = False
            self._sent_ms = now_ms
            for edition in self.board.publish(now_ms, self._has_tasks_to_place):
                self.deeds.send_view(self._printed(edition), edition.readers)

    def view(self) -> View:
        """All that there is."""
        nodes = [self._state_of(node) for node in self.members]
        buried = [node for node in self.authority.dead if node not in self.members]
        return View(self.board.number, nodes, buried[-MAX_DEAD:])

    def _printed(self, edition: Edition) -> View:
        if not edition.since:
            return self.view()
        nodes = [self._state_of(node) for node in edition.nodes]
        return View(edition.number, nodes, edition.gone, edition.since, edition.loads)

    def _has_tasks_to_place(self, node: bytes) -> bool:
        load = self.members[node].load
        return load is not None and bool(load.demands)

    def _state_of(self, node: bytes) -> NodeState:
        member = self.members[node]
        load = member.load
        if load is None:
            total = member.total
            return NodeState(node, member.address, total, total, 0, False, member.is_head)
        ready = sum(demand.ready for demand in load.demands)
        return NodeState(node, member.address, load.total, load.free, ready, load.draining, member.is_head)

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
            self._remove(node)
            where = f" at {address}" if address else ""
            what = "has left" if death.cause is Cause.LEFT else f"is dead: {reason}"
            say(f"node {node.hex()[:8]}{where} {what}.")
            self.deeds.bury(node, reason)

        self.table.write(node, NodeEntry(address, reason), bury)


def _state(load: Load) -> tuple[object, ...]:
    return load.total, load.free, load.demands, load.draining
