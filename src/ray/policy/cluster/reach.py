"""Which peers this node can talk to, when to open a link again, and when to go around.

All times are milliseconds of one clock of this machine. Only whoever needs a peer has it here: links are
opened on demand.

A link is alive as long as the peer echoes our stamps. That somebody is heard says nothing about whether he
hears us: where only one direction is broken, both ends miss echoes, and both close the link. Nobody is
declared dead here (`ray.policy.cluster.membership` does that); a peer that lives and can't be reached is gone
around, by way of a node that reaches both, and if there is none, whatever needs it fails with a typed error.
"""

from dataclasses import dataclass

PROBE_MS = 1_000  # between two stamps on a link with nothing else to carry them
BROKEN_MS = 5_000  # without an echo: the link is closed; longer than a loaded node manager sleeps
RETRY_MS = 500  # between two attempts to connect
AROUND_MS = 8_000  # without an echo: others are asked to pass messages on
GIVE_UP_MS = 14_000  # without an echo, and nobody passes messages on: an error within 15 s of the break

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
class Connect:
    """Open a link."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class AskAround:
    """Ask every linked peer, the head first, whether it reaches this one.

    Answers are `Reach.relay_offered`.
    """

    peer: NodeId


@dataclass(frozen=True, slots=True)
class GoAround:
    """Send what is for the peer by way of `via`."""

    peer: NodeId
    via: NodeId


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Fail what needs the peer, naming both nodes and how long it has not been reached."""

    peer: NodeId
    silent_ms: int


Action = Probe | Close | Connect | AskAround | GoAround | GiveUp


@dataclass(slots=True)
class _Peer:
    echoed_ms: int  # when the newest of our stamps that came back was sent
    linked: bool = False
    probed_ms: int = 0
    tried_ms: int | None = None
    via: NodeId | None = None
    given_up: bool = False


class Reach:
    """The peers that this node needs."""

    def __init__(self) -> None:
        self._peers: dict[NodeId, _Peer] = {}

    def needed(self, peer: NodeId, now_ms: int) -> list[Action]:
        """Something is to be sent to it."""
        if peer in self._peers:
            return []
        self._peers[peer] = _Peer(now_ms, tried_ms=now_ms)
        return [Connect(peer)]

    def forgotten(self, peer: NodeId) -> None:
        """Nothing here needs it any more, or it was declared dead.

        Whom it passed messages on for lose their way.
        """
        self._peers.pop(peer, None)
        for state in self._peers.values():
            if state.via == peer:
                state.via = None

    def linked(self, peer: NodeId, now_ms: int) -> list[Action]:
        """A link is up, whoever opened it; the handshake went both ways."""
        state = self._peers.setdefault(peer, _Peer(now_ms))
        state.linked = True
        state.given_up = False
        state.echoed_ms = state.probed_ms = now_ms
        state.via = None
        return [Probe(peer)]

    def unlinked(self, peer: NodeId, now_ms: int) -> list[Action]:
        """The link was closed or reset by the other end or the network."""
        state = self._peers.get(peer)
        if state is None or not state.linked:
            return []
        state.linked = False
        state.tried_ms = now_ms
        return [Connect(peer)]

    def echoed(self, peer: NodeId, sent_ms: int) -> None:
        """A stamp of ours came back on the link."""
        if state := self._peers.get(peer):
            state.echoed_ms = max(state.echoed_ms, sent_ms)

    def relay_offered(self, peer: NodeId, via: NodeId) -> list[Action]:
        """`via` says that it reaches the peer and passes messages on."""
        state = self._peers.get(peer)
        through = self._peers.get(via)
        if state is None or state.linked or state.via is not None or through is None or not through.linked:
            return []
        state.via = via
        state.given_up = False
        return [GoAround(peer, via)]

    def way(self, peer: NodeId) -> NodeId | None:
        """To whom to send what is for the peer: itself, a node that passes it on, or None: keep it for
        now."""
        state = self._peers.get(peer)
        if state is None:
            return None
        return peer if state.linked else state.via

    def tick(self, now_ms: int) -> list[Action]:
        """What time alone brings. To be called a few times a second."""
        actions: list[Action] = []
        for peer, state in self._peers.items():
            silent_ms = now_ms - state.echoed_ms
            if state.linked:
                if silent_ms >= BROKEN_MS:
                    state.linked = False
                    state.tried_ms = now_ms
                    actions += [Close(peer), Connect(peer)]
                elif now_ms - state.probed_ms >= PROBE_MS:
                    state.probed_ms = now_ms
                    actions.append(Probe(peer))
                continue
            if state.tried_ms is None or now_ms - state.tried_ms >= RETRY_MS:
                state.tried_ms = now_ms
                actions.append(Connect(peer))
                if state.via is None and silent_ms >= AROUND_MS:
                    actions.append(AskAround(peer))
            if state.via is not None and not self._is_linked(state.via):
                state.via = None
            if state.via is None and silent_ms >= GIVE_UP_MS and not state.given_up:
                state.given_up = True
                actions.append(GiveUp(peer, silent_ms))
        return actions

    def _is_linked(self, peer: NodeId) -> bool:
        state = self._peers.get(peer)
        return state is not None and state.linked
