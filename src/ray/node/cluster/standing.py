"""A node's standing in its cluster: who else is a member, and whether this one still is, and may act for
others.

Without sockets, clock or arena, as the simulator drives it as well. What is decided is `ray.policy.cluster`'s
(membership, fencing, reach); here it becomes messages, and what others say becomes its events.
"""

from bisect import bisect
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Protocol

from ray.node.cluster.head import Head, Table
from ray.policy.cluster import fencing, reach
from ray.policy.cluster.fencing import AskForHelp, Fence, FenceSelf, Rejoin, Resume
from ray.policy.cluster.reach import Close, GoAround, GoDirect, Probe, Reach
from ray.wire.messages import (
    MAX_DEAD,
    Hello,
    Help,
    Inquiry,
    Message,
    NodeState,
    Ping,
    Pong,
    Renew,
    Renewed,
    Resources,
    Sighting,
    View,
)

ABOUT_MEMBERSHIP = {Ping, Pong, View, Inquiry, Sighting, Renew, Renewed, Help}
NO_HEAD_MS = 3_000  # of refused connections: longer than a head that is started again at once is away
STRANGER_MS = 3_000  # longer than it takes a new member to be in the head's view, and most to find a new head
HELPERS = 5  # that a node which does not reach the head asks to be linked with


class Links(Protocol):
    """To other nodes."""

    def send(self, node: bytes, message: Message) -> None:
        """Without a link it is lost."""

    def send_all(self, nodes: list[bytes], message: Message) -> None:
        """The same to each."""

    def linked(self) -> Iterable[bytes]:
        """The nodes whose link is up."""

    def silent_ms(self, node: bytes) -> int | None:
        """How long nothing has come from that node; None: its link is not up."""

    def want_link(self, node: bytes) -> None: ...

    def close_link(self, node: bytes, reason: str) -> None:
        """`Standing.on_link_down` follows."""

    def go_around(self, node: bytes, ways: list[bytes]) -> None:
        """Opens a link by way of one of these; or without, if there is none of them."""

    def learn(self, node: bytes, address: str) -> None:
        """Where a node listens."""

    def address(self, node: bytes) -> str:
        """The same; "" if it is not known."""


class Deeds(Protocol):
    """What a standing has done, by whoever made it."""

    def on_view(self, view: View) -> None:
        """The newest of the head's, when those that it no longer has are buried."""

    def bury(self, node: bytes, reason: str) -> None:
        """Another node is dead for good."""

    def fence(self, reason: str) -> None:
        """From now on nothing goes to other nodes, or comes from them, but what makes them members."""

    def resume(self) -> None:
        """It was a member all the time: all links begin anew."""

    def rejoin(self) -> None:
        """This incarnation is dead to the others: it ends, and another begins."""


class Standing:
    """Used on the event loop's thread. All times are milliseconds; `now_ms` of a clock that stands still
    while the machine is suspended."""

    def __init__(
        self,
        node: bytes,
        known: Iterable[bytes],
        links: Links,
        deeds: Deeds,
        boot_ms: Callable[[], int],
        table: Table | None,
        now_ms: int,
    ) -> None:
        """`known` are others that it has had to do with. `boot_ms` is the clock that goes on during a
        suspension: that of leases. `table` is the head's: with one, this node is it."""
        self.node = node
        self.links = links
        self.deeds = deeds
        self.boot_ms = boot_ms
        self.present: set[bytes] = set(known)
        self.head = None if table is None else Head(node, self.present, now_ms, self, table)
        self.head_node: bytes | None = None if table is None else node
        self.dead: dict[bytes, None] = {}  # that this node knows of, the last ones last
        self._fence: Fence | None = Fence(2, boot_ms()) if table is None else None
        self._reach = Reach(boot_ms())
        self._refused_ms: tuple[int, int] | None = None  # when the head's machine first and last did so
        self._view_number = 0
        self._view_of: bytes | None = None  # the head that has sent the last view
        self._asking: set[bytes] = set()  # nodes whose renewals are passed on at the moment
        self._missing: set[bytes] = set()  # members, as far as is known, that the head has not listed
        self._strangers: dict[bytes, int] = {}  # these, and others that it has not: when to name them to it

    @property
    def is_fenced(self) -> bool:
        return self._fence is not None and self._fence.fenced

    def may_act(self) -> bool:
        """To be asked before anything is done for others: a process that was stopped comes there before its
        own timer does. False: nothing must leave this node."""
        if self._fence is None or self._fence.may_act(self.boot_ms()):
            return True
        self._do(self._fence.tick(self.boot_ms()))
        return False

    # --- links ---

    def on_link_up(self, node: bytes, hello: Hello, is_around: bool, now_ms: int) -> bool:
        """Whether work may go over it."""
        if not hello.address:  # a command of a user's, which only asks
            return False
        if node in self.dead or (self.head is not None and not self.head.on_link_up(node, hello, now_ms)):
            self.links.send(node, View(0, [], [node]))
            self.links.close_link(node, "it was declared dead, and may come as another")
            return False
        if hello.is_head:
            self.head_node = node
            self._refused_ms = None
        self._do(self._reach.linked(node, is_around, self.boot_ms()))
        return not self.is_fenced

    def on_link_down(self, node: bytes, now_ms: int) -> None:
        self._reach.unlinked(node, self.boot_ms())
        if self.head is not None:
            self.head.on_link_down(node, now_ms)

    def needs_link(self, node: bytes) -> None:
        """Something is to be said to that node, or waited for."""
        if node not in self.dead:
            self._reach.needed(node, self.boot_ms())

    def on_refused(self, node: bytes, now_ms: int) -> None:
        """Its machine has answered that nobody listens there."""
        if node == self.head_node:
            self.on_head_refused()
        if self.head is not None:
            self.head.on_refused(node, now_ms)

    def on_head_refused(self) -> None:
        now_ms = self.boot_ms()
        first_ms, last_ms = self._refused_ms or (now_ms, now_ms)
        # What it did long ago says nothing: it may have been away since, behind a link that was cut.
        self._refused_ms = (first_ms if now_ms - last_ms < fencing.FRESH_MS else now_ms), now_ms
        if self._fence is not None:
            self._fence.head_refused(now_ms)

    def has_no_head(self) -> bool:
        """It has ended: its machine says for a while that nobody listens there."""
        now_ms = self.boot_ms()
        first_ms, last_ms = self._refused_ms or (now_ms, now_ms)
        return now_ms - last_ms < fencing.FRESH_MS and now_ms - first_ms >= NO_HEAD_MS

    def on_replaced(self, node: bytes, by: bytes, now_ms: int) -> None:
        """At its address there is another incarnation."""
        if self.head is not None:
            self.head.on_replaced(node, by, now_ms)

    # --- messages ---

    def heard(self, node: bytes, now_ms: int) -> None:
        """Messages have come, whatever they say."""
        if self.head is not None:
            self.head.authority.heard(node, now_ms)

    def on_message(self, node: bytes, message: Message, now_ms: int) -> bool:
        """False when it is not about membership."""
        if type(message) not in ABOUT_MEMBERSHIP:
            return False
        if isinstance(message, Ping):
            # The head's answer says that it counts the node as a member.
            if self.head is None or node not in self.head.authority.dead:
                self.links.send(node, Pong(message.number))
        elif isinstance(message, Pong):
            self._reach.echoed(node, message.number)
            if node == self.head_node:
                self._renewed(message.number)
        elif isinstance(message, View):
            self._on_view(node, message, now_ms)
        elif isinstance(message, Inquiry):
            self._on_inquiry(node, message.about)
        elif isinstance(message, Sighting):
            if self.head is not None:
                self.head.on_sighting(node, message, now_ms)
        elif isinstance(message, Renew):
            self._on_renew(node, message, now_ms)
        elif isinstance(message, Renewed):
            self._on_renewed(node, message)
        elif isinstance(message, Help) and self._fence is not None:
            self._fence.peer_said(node, message.can_renew, self.boot_ms())
        return True

    def on_view(self, view: View) -> None:
        """Of the head: who is a member, and who is none any more.

        Who is merely missing is not dead for that: a head that begins anew, without what the one before it
        had kept, does not know those yet that have not come to it.
        """
        said = {state.node_id for state in view.nodes}
        self._learn_deaths(view.dead)
        if self._view_of not in (None, self.head_node) and self._view_of not in said:
            self._learn_death(self._view_of, "another is the head in its place")
        self._view_of = self.head_node
        if not view.since:
            self._missing = self.present.copy()
        self._missing -= said
        self.present |= said
        if self._fence is not None:
            self._fence.members_changed(len(self.present))
        self._view_number = view.number
        self.deeds.on_view(view)

    def known_dead(self) -> list[bytes]:
        """For a head that may not know it."""
        return list(self.dead)[-MAX_DEAD:]

    def tick(self, now_ms: int) -> None:
        """To be called every `reach.TICK_MS` at least."""
        boot_ms = self.boot_ms()
        self._do(self._reach.tick(boot_ms))
        if self._fence is not None:
            self._do(self._fence.tick(boot_ms))
        if self.head is not None:
            self.head.tick(now_ms)

    def has_to_do_with(self, nodes: AbstractSet[bytes], now_ms: int) -> None:
        """All others that something here waits for, or is kept for: to be told as often as `tick` is called.
        Whom the head does not know nobody would ever find dead."""
        strangers = self._missing | (nodes - self.present - self.dead.keys())
        self._strangers = {
            node: self._strangers.get(node, now_ms + STRANGER_MS) for node in sorted(strangers)
        }
        due = [node for node, due_ms in self._strangers.items() if now_ms >= due_ms]
        if not due:
            return
        self._strangers.update(dict.fromkeys(due, now_ms + STRANGER_MS))
        states = [NodeState(node, self.links.address(node), Resources(), Resources(), 0) for node in due]
        if self.head is not None:
            self._learn_deaths(self.head.on_missed(self.node, states, now_ms))
        elif self.head_node is not None:
            self.links.send(self.head_node, View(0, states))

    # --- what the head's part has done ---

    def send(self, node: bytes, message: Message) -> None:
        self.links.send(node, message)

    def send_view(self, view: View, readers: list[bytes]) -> None:
        self.links.send_all([node for node in readers if node != self.node], view)
        if self.node in readers:
            self.on_view(view)

    def want_link(self, node: bytes) -> None:
        self.links.want_link(node)

    def learn(self, node: bytes, address: str) -> None:
        self.links.learn(node, address)

    def bury(self, node: bytes, reason: str) -> None:
        self._learn_death(node, reason)

    # --- what follows ---

    def _on_view(self, node: bytes, view: View, now_ms: int) -> None:
        if self.head is not None:
            dead = self.head.on_missed(node, view.nodes, now_ms)
            for start in range(0, len(dead), MAX_DEAD):
                self.links.send(node, View(0, [], dead[start : start + MAX_DEAD]))
        elif node == self.head_node and view.number:
            if view.since > self._view_number:
                self.links.close_link(node, "one of its views is missing here")
                self.links.want_link(node)
            else:
                self.on_view(view)
        elif node == self.head_node:
            self._learn_deaths(view.dead)
        elif self.node in view.dead:
            # Of a node that will not have this one back, as the head has told it.
            self._learn_death(self.node, "")

    def _learn_deaths(self, nodes: list[bytes]) -> None:
        for node in nodes:
            self._learn_death(node, "the head has declared it dead")

    def _learn_death(self, node: bytes, reason: str) -> None:
        if node == self.node:
            if self._fence is not None:
                self._do(self._fence.died())
            return
        self.present.discard(node)
        self._missing.discard(node)
        if node not in self.dead:
            self.dead[node] = None
            self._reach.forgotten(node)
            self.deeds.bury(node, reason)

    def _on_inquiry(self, head: bytes, about: bytes) -> None:
        silent_ms = self.links.silent_ms(about)
        if silent_ms is None:  # the next question will find one
            self.needs_link(about)
            self.links.want_link(about)
        self.links.send(head, Sighting(about, silent_ms))

    def _on_renew(self, node: bytes, renew: Renew, now_ms: int) -> None:
        if self.head is not None:
            if self.head.on_renewal(node, renew.node, now_ms):
                self.links.send(node, Renewed(renew.node, renew.number))
            return
        if renew.node != node or self._fence is None:
            return  # it is passed on once
        can_renew = self._fence.can_renew(self.boot_ms())
        self.links.send(node, Help(can_renew))
        if self.head_node is not None:
            self._asking.add(node)
            self.links.send(self.head_node, renew)

    def _on_renewed(self, node: bytes, renewed: Renewed) -> None:
        if renewed.node == self.node:
            self._renewed(renewed.number)
        elif node == self.head_node and renewed.node in self._asking:
            self._asking.discard(renewed.node)
            self.links.send(renewed.node, renewed)

    def _ask_for_help(self) -> None:
        linked = set(self.links.linked())
        for node in linked:
            self.links.send(node, Renew(self.node, self.boot_ms()))
        # Those without a link will be asked the next time. Which ones, is different for each node.
        others = sorted(self.present - {self.node, self.head_node})
        after = bisect(others, self.node)
        for node in (others[after:] + others[:after])[:HELPERS]:
            if node not in linked:
                self.links.want_link(node)

    def _renewed(self, begun_ms: int) -> None:
        if self._fence is not None:
            self._fence.renewed(begun_ms)

    def _do(self, actions: Iterable[fencing.Action | reach.Action]) -> None:
        for action in actions:
            if isinstance(action, Probe):
                self.links.send(action.peer, Ping(self.boot_ms()))
            elif isinstance(action, Close):
                self.links.close_link(action.peer, "nothing comes back from it")
                self.links.want_link(action.peer)
            elif isinstance(action, GoAround):
                ways = [self.head_node] if self.head_node is not None else []
                ways += sorted(self.present - {self.head_node})
                self.links.go_around(
                    action.peer, [way for way in ways if way not in (action.peer, self.node)]
                )
            elif isinstance(action, GoDirect):
                self.links.go_around(action.peer, [])
            elif isinstance(action, AskForHelp):
                self._ask_for_help()
            elif isinstance(action, FenceSelf):
                self.deeds.fence(
                    f"the head has not answered for {action.since_renewal_ms / 1000:.1f} s"
                    if action.since_renewal_ms
                    else "the head has declared it dead"
                )
            elif isinstance(action, Resume):
                self.deeds.resume()
            elif isinstance(action, Rejoin):
                self.deeds.rejoin()
