"""The head's own part of a cluster, without a network."""

from collections.abc import Collection

from ray.node.cluster.head import Head
from ray.policy.cluster.membership import DEAD_MS, GRACE_MS, TICK_MS
from ray.wire.messages import PROTOCOL, Hello, Load, Resources, View

HEAD, A, B = (bytes([letter]) * 20 for letter in b"HAB")


class Deeds:
    """A head and what it has done."""

    def __init__(self, known: Collection[bytes] = ()) -> None:
        self.views: list[View] = []
        self.buried: list[bytes] = []
        self.head = Head(
            HEAD,
            known,
            0,
            self.views.append,
            lambda node: None,
            lambda node, reason: self.buried.append(node),
        )

    def link(self, node: bytes, now_ms: int) -> None:
        hello = Hello(PROTOCOL, "1", node, b"", f"{node.hex()}:1", False, Resources())
        self.head.on_link_up(node, hello, now_ms)

    def free_of(self, node: bytes) -> int:
        return next(state.free.cpu for state in self.head.view().nodes if state.node_id == node)


def load(number: int, free: int) -> Load:
    return Load(number, Resources(10_000), Resources(free), [], 1, 0)


def test_a_head_that_has_come_back_keeps_its_members() -> None:
    deeds = Deeds([A, B])
    deeds.head.tick(TICK_MS)
    assert {A, B} <= {state.node_id for state in deeds.views[-1].nodes}
    deeds.link(A, TICK_MS)
    now_ms = TICK_MS
    while now_ms < DEAD_MS + GRACE_MS + TICK_MS:
        now_ms += TICK_MS
        deeds.head.on_load(A, load(1, 0), now_ms)
        deeds.head.tick(now_ms)
    assert deeds.buried == [B]
    assert [state.address for state in deeds.head.view().nodes if state.node_id == A] == [f"{A.hex()}:1"]


def test_what_a_restarted_node_manager_reports_counts_at_once() -> None:
    deeds = Deeds()
    deeds.link(A, 0)
    deeds.head.on_load(A, load(500, 0), 1)
    deeds.head.on_link_down(A, 2)
    deeds.link(A, 3)
    deeds.head.on_load(A, load(1, 10_000), 4)
    assert deeds.free_of(A) == 10_000
