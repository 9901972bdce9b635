"""When a node that can't renew its lease must stop acting for others, and when it may again.

All times are milliseconds of this machine's boot-time clock, which goes on while the machine is suspended: a
laptop that wakes up must know that its lease is over before it does anything else.

A renewal is any proof that the head knows of us: the lease raised in the control store, the same through a
peer, or, while the control store is down, the head's own word. What counts is when the renewal was *begun*:
the head saw it later, so it counts our silence from later than we do, and `FENCE_MS` < `membership.DEAD_MS`
makes us stop before anybody runs our work again.

A fenced node keeps everything, but takes no tasks of other nodes, gives out no results, and serves no actor's
calls. If it turns out to be still a member, it goes on as if nothing had been; if it was declared dead, it
rejoins as a new incarnation with its drivers and objects.

"The head is gone" and "I am cut off" look alike from one node. It does not fence while the head's machine
refuses connections (it answers, so we are not cut off), or while more than half of the cluster says the same
as we do (the head hears less than half then, and waits `membership.MINORITY_DEAD_MS`).
"""

from dataclasses import dataclass

RENEW_MS = 1_000  # between two renewals
ASK_MS = 3_000  # without one: ask peers to pass a renewal on, and how they are
FENCE_MS = 6_000  # without one; less than DEAD_MS by what clocks may differ and a paused process may miss
MAJORITY_FENCE_MS = 45_000  # the same when more than half of the cluster can't renew either
FRESH_MS = 2_000  # how long what a peer or the head's machine said holds
ASK_AGAIN_MS = 1_000

NodeId = bytes


@dataclass(frozen=True, slots=True)
class AskForHelp:
    """Ask all peers to pass a renewal on to the head, and whether they themselves can't renew."""


@dataclass(frozen=True, slots=True)
class FenceSelf:
    """Stop acting for others."""

    since_renewal_ms: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Still a member: act again."""


@dataclass(frozen=True, slots=True)
class Rejoin:
    """Declared dead: join again under a new id."""


Action = AskForHelp | FenceSelf | Resume | Rejoin


class Fence:
    """One node's right to act for others."""

    def __init__(self, members: int, now_ms: int) -> None:
        """`members` counts this node and the head too."""
        self.members = members
        self.fenced = False
        self.declared_dead = False
        self._renewed_ms = now_ms
        self._refused_ms: int | None = None  # when the head's machine last refused a connection
        self._cut_off: dict[NodeId, int] = {}  # peers that can't renew either, and when they said so
        self._asked_ms: int | None = None

    def renewed(self, begun_ms: int) -> None:
        """The head knows of us: of a renewal that was begun then, however it got there."""
        self._renewed_ms = max(self._renewed_ms, begun_ms)
        self._refused_ms = None

    def head_refused(self, now_ms: int) -> None:
        """The head's machine has answered that nobody listens there: head and control store are down."""
        self._refused_ms = now_ms

    def peer_said(self, peer: NodeId, can_renew: bool, now_ms: int) -> None:
        """A peer tells whether its own renewals succeed."""
        if can_renew:
            self._cut_off.pop(peer, None)
        else:
            self._cut_off[peer] = now_ms

    def members_changed(self, members: int) -> None:
        self.members = members

    def died(self) -> list[Action]:
        """The head has declared this incarnation dead."""
        if self.declared_dead:
            return []
        self.declared_dead = True
        actions: list[Action] = [] if self.fenced else [FenceSelf(0)]
        self.fenced = True
        return [*actions, Rejoin()]

    def can_renew(self, now_ms: int) -> bool:
        """What to tell a peer that asks."""
        return now_ms - self._renewed_ms < FENCE_MS

    def may_act(self, now_ms: int) -> bool:
        """Whether work for others may be done at this moment; ask before each result that leaves the node.

        A process that was stopped for a minute may come here before its own timer does.
        """
        if self.fenced:
            return False
        since_ms = now_ms - self._renewed_ms
        return since_ms < FENCE_MS or since_ms < self._limit_ms(now_ms)  # which is no less

    def tick(self, now_ms: int) -> list[Action]:
        """What time alone brings. To be called a few times a second."""
        if self.declared_dead:
            return []
        actions: list[Action] = []
        if self.fenced:
            # Only a renewal frees it: what it does not know may have been decided while it was cut off.
            if self.can_renew(now_ms):
                self.fenced = False
                actions.append(Resume())
        elif not self.may_act(now_ms):
            self.fenced = True
            actions.append(FenceSelf(now_ms - self._renewed_ms))
        if now_ms - self._renewed_ms >= ASK_MS and (
            self._asked_ms is None or now_ms - self._asked_ms >= ASK_AGAIN_MS
        ):
            self._asked_ms = now_ms
            actions.append(AskForHelp())
        return actions

    def _limit_ms(self, now_ms: int) -> float:
        if self._refused_ms is not None and now_ms - self._refused_ms <= FRESH_MS:
            return float("inf")
        cut_off = sum(now_ms - said_ms <= FRESH_MS for said_ms in self._cut_off.values())
        return MAJORITY_FENCE_MS if 2 * (1 + cut_off) > self.members else FENCE_MS
