"""The head's own part of a cluster: who is there, what each has, who is dead."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from ray.policy.cluster.membership import Action, Authority, Connect, DeclareDead
from ray.session.say import say
from ray.wire.messages import Hello, Load, NodeState, Resources, View

REPEAT_MS = 1_000  # a view is sent this often even if nothing has changed: it says that the head is there
LEAST_MS = 100  # between two views, whatever changes


@dataclass(slots=True)
class _Member:
    address: str  # "": not known yet
    is_head: bool
    total: Resources  # as it said when it came, until it says more
    load: Load | None = None


class Head:
    """Used on the event loop's thread. What it decides is done by whoever made it."""

    def __init__(
        self,
        node: bytes,
        known: Collection[bytes],
        now_ms: int,
        send_view: Callable[[View], None],
        want_link: Callable[[bytes], None],
        bury: Callable[[bytes, str], None],
    ) -> None:
        """`known` are members of the node manager before this one, which will come back, or fall silent."""
        self.authority = Authority.restarted(node, list(known), {}, now_ms)
        self.members = {other: _Member("", False, Resources()) for other in known}
        self.send_view = send_view
        self.want_link = want_link
        self.bury = bury
        self._number = 0
        self.has_changed = True
        self._sent_ms = now_ms

    def on_link_up(self, node: bytes, hello: Hello, now_ms: int) -> None:
        if node not in self.members:
            self.members[node] = _Member(hello.address, hello.is_head, hello.resources)
            self._do(self.authority.joined(node, None, now_ms))
        self.members[node].address = hello.address
        self.members[node].total = hello.resources
        self.authority.linked(node, now_ms)
        self.has_changed = True

    def on_link_down(self, node: bytes, now_ms: int) -> None:
        self._do(self.authority.unlinked(node, now_ms))

    def on_refused(self, node: bytes, now_ms: int) -> None:
        self._do(self.authority.refused(node, now_ms))

    def on_load(self, node: bytes, load: Load, now_ms: int) -> bool:
        """Whether the others are to hear of it."""
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
            self.send_view(self.view())

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
        return View(self._number, nodes)

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, DeclareDead):
                member = self.members.pop(action.node, None)
                where = f" at {member.address}" if member is not None else ""
                say(f"node {action.node.hex()[:8]}{where} is dead: {action.cause.value}.")
                self.has_changed = True
                self.bury(action.node, action.cause.value)
            elif isinstance(action, Connect):
                self.want_link(action.node)
            # Peers are not asked yet: who is silent to the head alone is dead after eight seconds.


def _state(load: Load) -> tuple[object, ...]:
    return load.total, load.free, load.demands, load.draining
