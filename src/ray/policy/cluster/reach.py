"""Which peers this node can talk to, when a link is broken, and when to go around.

All times are milliseconds of one clock of this machine. Only whoever needs a peer has it here: links are
opened on demand, and opening one is tried for as long as the peer is needed.

A link is alive as long as the peer echoes our stamps. That somebody is heard says nothing about whether he
hears us: where only one direction is broken, both ends miss echoes, and both close the link. Nobody is
declared dead here (`ray.policy.cluster.membership` does that). A peer that lives and can't be reached is gone
around, by way of a node that reaches both. There is one: the head reaches every member, or has a peer that
does, or declares it dead.
"""

from dataclasses import dataclass

TICK_MS = 250  # how often `Reach.tick` is called at least
STALL_MS = 1_000  # a tick that comes later than this after the one before: this node did not run meanwhile
PROBE_MS = 1_000  # between two stamps on a link
BROKEN_MS = 5_000  # without an echo: the link is closed; longer than a loaded node manager sleeps
AROUND_MS = 8_000  # without an echo: other ways are tried, so that one is found within 15 s of the break
AROUND_AGAIN_MS = 4_000  # between two rounds over all ways
DIRECT_AGAIN_MS = 5_000  # while a link goes around: between two attempts to do without

NodeId = bytes


@dataclass(frozen=True, slots=True)
class Probe:
    """Send a stamp to be echoed."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class Close:
    """Close the link: it is broken in one direction at least. Everything of it is dropped."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class GoAround:
    """Try to open a link by way of other nodes, the head first."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class GoDirect:
    """The link goes around: try to open one that does not."""

    peer: NodeId


Action = Probe | Close | GoAround | GoDirect


@dataclass(slots=True)
class _Peer:
    echoed_ms: int  # when the newest of our stamps that came back was sent
    linked: bool = False
    is_around: bool = False  # by way of another, which we have chosen
    probed_ms: int = 0
    tried_ms: int | None = None


class Reach:
    """The peers that this node needs."""

    def __init__(self, now_ms: int) -> None:
        self._peers: dict[NodeId, _Peer] = {}
        self._ticked_ms = now_ms

    def needed(self, peer: NodeId, now_ms: int) -> None:
        """Something is to be sent to it."""
        self._peers.setdefault(peer, _Peer(now_ms))

    def forgotten(self, peer: NodeId) -> None:
        """Nothing here needs it any more, or it was declared dead."""
        self._peers.pop(peer, None)

    def linked(self, peer: NodeId, is_around: bool, now_ms: int) -> list[Action]:
        """A link is up, whoever opened it; the handshake went both ways."""
        self._peers[peer] = _Peer(now_ms, True, is_around, probed_ms=now_ms, tried_ms=now_ms)
        return [Probe(peer)]

    def unlinked(self, peer: NodeId, now_ms: int) -> None:
        """The link was closed or reset, by either end or the network."""
        if state := self._peers.get(peer):
            if state.is_around:  # what it went around may still be there
                state.echoed_ms = min(state.echoed_ms, now_ms - AROUND_MS)
            state.linked = state.is_around = False
            state.tried_ms = None

    def echoed(self, peer: NodeId, sent_ms: int) -> None:
        """A stamp of ours came back on the link."""
        if state := self._peers.get(peer):
            state.echoed_ms = max(state.echoed_ms, sent_ms)

    def tick(self, now_ms: int) -> list[Action]:
        """What time alone brings. To be called every `TICK_MS`."""
        passed_ms = now_ms - self._ticked_ms
        self._ticked_ms = now_ms
        actions: list[Action] = []
        for peer, state in self._peers.items():
            if passed_ms > STALL_MS:  # echoes lie unread
                state.echoed_ms += passed_ms
            silent_ms = now_ms - state.echoed_ms
            if not state.linked:
                if silent_ms >= AROUND_MS and self._is_due(state, AROUND_AGAIN_MS, now_ms):
                    actions.append(GoAround(peer))
                continue
            if silent_ms >= BROKEN_MS:
                state.linked = state.is_around = False
                state.tried_ms = None
                actions.append(Close(peer))
            elif now_ms - state.probed_ms >= PROBE_MS:
                state.probed_ms = now_ms
                actions.append(Probe(peer))
            if state.is_around and self._is_due(state, DIRECT_AGAIN_MS, now_ms):
                actions.append(GoDirect(peer))
        return actions

    def _is_due(self, state: _Peer, pause_ms: int, now_ms: int) -> bool:
        if state.tried_ms is not None and now_ms - state.tried_ms < pause_ms:
            return False
        state.tried_ms = now_ms
        return True
