"""Who is a member of the cluster, who is suspected, who is dead: decided by the head's node manager alone.

All times are milliseconds of one clock of the machine that decides, one that stands still while it is
suspended. A *node* is one incarnation: a node that comes back has another id and says which one it replaces.

What counts as a sign of life: a lease in the control store that has moved, a message on the link, a peer that
has heard of the node. A lease moves when its holder raises a number in it; no clock of another machine is
read.

Four rules:

- *Refused twice is dead.* A node's listening socket is held by its keeper and lives as long as the node, so a
  machine that refuses a connection there says that the node is gone. A node manager that is restarted refuses
  nothing.
- *Silent for `DEAD_MS` is dead*, if no peer has heard of it either and the head still hears at least half of
  the cluster; else only after `MINORITY_DEAD_MS`, since then it is the head that is likely to be cut off.
  Nodes cut off fence themselves before that (`ray.policy.cluster.fencing`, which has the other half of these
  figures).
- *While the control store is down nobody is dead*, and when it is back every lease begins anew, `GRACE_MS`
  later.
- *Time in which the head itself did not run is nobody's silence*: a head under load must not bury the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

TICK_MS = 250  # how often `Authority.tick` is called at least
STALL_MS = 1_000  # a tick that comes later than this after the one before: the head did not run meanwhile
SUSPECT_MS = 3_000  # of silence: peers are asked, and a connection is tried
DEAD_MS = 8_000  # of silence; with the time between two looks at a lease, less than 10 s in all
MINORITY_DEAD_MS = 60_000  # the same when the head hears less than half of the nodes
HEARD_MS = 4_000  # who was heard within this time counts as heard when the head counts its side
GRACE_MS = 5_000  # nothing is silence yet, after the control store has come back
REFUSED_AGAIN_MS = 200  # between two refusals that make a death
ASK_AGAIN_MS = 1_000  # between two questions to peers, and two attempts to connect
ASKED_PEERS = 5  # at one time: enough to be sure, and no more when thousands are there

NodeId = bytes


class Cause(Enum):
    """Why a node is no member any more."""

    REFUSED = "its machine answers, and nobody listens at its port"
    SILENT = "nobody has heard of it"
    REPLACED = "it has come back as another incarnation"
    LEFT = "it has left"
    EARLIER = "the head before this one has said so"


@dataclass(frozen=True, slots=True)
class DeclareDead:
    """Write it into the control store, then tell every node. Nothing brings this incarnation back."""

    node: NodeId
    cause: Cause
    silent_ms: int


@dataclass(frozen=True, slots=True)
class AskPeers:
    """Ask these whether they have heard of the node; their answers are `Authority.reported`."""

    about: NodeId
    peers: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Connect:
    """Try to open a link to the node; the outcome is `linked` or `refused`, or nothing."""

    node: NodeId


Action = DeclareDead | AskPeers | Connect


@dataclass(slots=True)
class _Member:
    """What the head knows of one living node."""

    heard_ms: int
    linked: bool = False
    suspected: bool = False
    refused_ms: int | None = None  # the first refusal since the last sign of life
    asked_ms: int | None = None
    asked: int = 0  # how many times since it is suspected: other peers each time


class Authority:
    """The members of one cluster, as its head decides."""

    def __init__(self, head: NodeId, now_ms: int) -> None:
        self.head = head
        self.dead: dict[NodeId, Cause] = {}
        self.store_up = True
        self._members: dict[NodeId, _Member] = {}
        self._ticked_ms = now_ms

    @classmethod
    def restarted(
        cls, head: NodeId, members: Sequence[NodeId], dead: Mapping[NodeId, Cause], now_ms: int
    ) -> "Authority":
        """A head that has come back, from what the control store holds: every lease begins anew.

        Whoever lives comes by itself; those that have not come after `ASK_AGAIN_MS` are looked for.
        """
        authority = cls(head, now_ms)
        authority.dead = dict(dead)
        authority.known(members, now_ms)
        return authority

    def known(self, members: Sequence[NodeId], now_ms: int) -> None:
        """Nodes that were members under the head before this one."""
        for node in members:
            if node != self.head and node not in self.dead and node not in self._members:
                self._members[node] = _Member(now_ms + GRACE_MS, suspected=True, asked_ms=now_ms)

    def known_dead(self, node: NodeId, cause: Cause, now_ms: int) -> list[Action]:
        """Some other part of the cluster knows that it was declared dead: under the head before this one."""
        actions = self._bury(node, cause, now_ms)
        self.dead[node] = cause
        return actions

    def members(self) -> list[NodeId]:
        """Who lives, the head first."""
        return [self.head, *self._members]

    def suspected(self) -> list[NodeId]:
        """Who may be dead: gets no new work."""
        return [node for node, member in self._members.items() if member.suspected]

    def joined(self, node: NodeId, replaces: NodeId | None, now_ms: int) -> list[Action]:
        """A node has come, perhaps as the new incarnation of another.

        One that was declared dead stays dead.
        """
        actions: list[Action] = []
        if replaces is not None:
            actions += self._bury(replaces, Cause.REPLACED, now_ms)
        if node not in self.dead and node != self.head:
            self._members.setdefault(node, _Member(now_ms))
        return actions

    def left(self, node: NodeId, now_ms: int) -> list[Action]:
        """It has been drained, and says goodbye."""
        return self._bury(node, Cause.LEFT, now_ms)

    def heard(self, node: NodeId, now_ms: int) -> None:
        """A sign of life: a message, or a lease that has moved since the last look at it."""
        if member := self._members.get(node):
            member.heard_ms = max(member.heard_ms, now_ms)
            member.suspected = False
            member.refused_ms = member.asked_ms = None
            member.asked = 0

    def linked(self, node: NodeId, now_ms: int) -> None:
        """A link to it is up: its node manager has shown who it is."""
        self.heard(node, now_ms)
        if member := self._members.get(node):
            member.linked = True

    def unlinked(self, node: NodeId, now_ms: int) -> list[Action]:
        """The link was reset or closed. What that means, an attempt to connect will show at once."""
        member = self._members.get(node)
        if member is None:
            return []
        member.linked = False
        member.suspected = True
        member.asked_ms = now_ms
        return [Connect(node)]

    def refused(self, node: NodeId, now_ms: int) -> list[Action]:
        """Its machine has answered that nobody listens at its port."""
        member = self._members.get(node)
        if member is None:
            return []
        member.suspected = True
        if member.refused_ms is None:
            member.refused_ms = now_ms
        elif self.store_up and now_ms - member.refused_ms >= REFUSED_AGAIN_MS:
            return self._bury(node, Cause.REFUSED, now_ms)
        return []

    def reported(self, reporter: NodeId, about: NodeId, silent_ms: int | None, now_ms: int) -> None:
        """What a peer says of a node: it had a sign of life of it so long ago; None: it can't reach it.

        A peer that hears it keeps it alive: the two then reach each other through that peer. Who is no member
        has nothing to say.
        """
        if silent_ms is None or (reporter not in self._members and reporter != self.head):
            return
        member = self._members.get(about)
        if member and now_ms - silent_ms > member.heard_ms:
            member.heard_ms = now_ms - silent_ms
            # It stays suspected, as this head itself does not hear it; but what refused can't have been it.
            member.refused_ms = None

    def store_changed(self, is_up: bool, now_ms: int) -> None:
        """The control store went away, or is back."""
        if is_up and not self.store_up:
            self._begin_anew(now_ms + GRACE_MS)
        self.store_up = is_up

    def tick(self, now_ms: int) -> list[Action]:
        """What time alone brings. To be called every `TICK_MS`."""
        passed_ms = now_ms - self._ticked_ms
        self._ticked_ms = now_ms
        if passed_ms > STALL_MS:
            for member in self._members.values():
                member.heard_ms += passed_ms
        actions: list[Action] = []
        dead_ms = DEAD_MS if self.hears_half(now_ms) else MINORITY_DEAD_MS
        for node, member in list(self._members.items()):
            silent_ms = now_ms - member.heard_ms
            if silent_ms >= SUSPECT_MS:
                member.suspected = True
            if not member.suspected:
                continue
            if self.store_up and silent_ms >= dead_ms:
                actions += self._bury(node, Cause.SILENT, now_ms)
            else:
                actions += self._inquire(node, member, silent_ms, now_ms)
        return actions

    def hears_half(self, now_ms: int) -> bool:
        """Whether the head and whom it has heard of lately are at least half of the cluster."""
        heard = sum(now_ms - member.heard_ms <= HEARD_MS for member in self._members.values())
        return 2 * (1 + heard) >= 1 + len(self._members)

    def _inquire(self, node: NodeId, member: _Member, silent_ms: int, now_ms: int) -> list[Action]:
        # After the first refusal the second attempt comes at once; else once a second.
        pause_ms = ASK_AGAIN_MS if member.refused_ms is None else REFUSED_AGAIN_MS
        if member.asked_ms is not None and now_ms - member.asked_ms < pause_ms:
            return []
        member.asked_ms = now_ms
        actions: list[Action] = [] if member.linked else [Connect(node)]
        others = [other for other, state in self._members.items() if other != node and not state.suspected]
        if silent_ms >= SUSPECT_MS and others:
            start = member.asked * ASKED_PEERS % len(others)
            member.asked += 1
            actions.append(AskPeers(node, tuple((others[start:] + others[:start])[:ASKED_PEERS])))
        return actions

    def _begin_anew(self, heard_ms: int) -> None:
        for member in self._members.values():
            member.heard_ms = heard_ms
            member.refused_ms = None

    def _bury(self, node: NodeId, cause: Cause, now_ms: int) -> list[Action]:
        member = self._members.pop(node, None)
        if member is None:
            return []
        self.dead[node] = cause
        return [DeclareDead(node, cause, max(0, now_ms - member.heard_ms))]
