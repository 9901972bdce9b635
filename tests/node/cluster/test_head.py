"""The head's own part of a cluster, without a network."""

from collections.abc import Callable, Collection

from ray.control_store.nodes import NodeEntry
from ray.node.cluster.head import Head
from ray.policy.cluster.membership import (
    ASK_AGAIN_MS,
    DEAD_MS,
    GRACE_MS,
    REFUSED_AGAIN_MS,
    SUSPECT_MS,
    TICK_MS,
)
from ray.policy.cluster.views import LEAST_MS
from ray.wire.messages import PROTOCOL, Hello, Inquiry, Load, Message, NodeState, Resources, Sighting, View

HEAD, A, B = (bytes([letter]) * 20 for letter in b"HAB")


class Deeds:
    """A head and what it has done."""

    def __init__(self, known: Collection[bytes] = ()) -> None:
        self.views: list[View] = []
        self.pictures: dict[bytes, dict[bytes, NodeState]] = {}  # what each reader makes of them
        self.buried: list[bytes] = []
        self.sent: list[tuple[bytes, Message]] = []
        self.wanted: list[bytes] = []
        self.learned: dict[bytes, str] = {}
        self.table: dict[bytes, NodeEntry] = {}
        self.unwritten: list[Callable[[], None]] = []
        self.is_store_up = True
        self.head = Head(HEAD, known, 0, self, self)

    def write(self, node: bytes, entry: NodeEntry, done: Callable[[], None] | None = None) -> None:
        self.table[node] = entry
        if done is not None:
            self.unwritten.append(done)
        while self.is_store_up and self.unwritten:
            self.unwritten.pop()()

    def send(self, node: bytes, message: Message) -> None:
        self.sent.append((node, message))

    def send_view(self, view: View, readers: list[bytes]) -> None:
        self.views.append(view)
        for reader in readers:
            picture = self.pictures.setdefault(reader, {})
            if not view.since:
                picture.clear()
            picture.update({state.node_id: state for state in view.nodes})
            for node in view.dead:
                picture.pop(node, None)

    def want_link(self, node: bytes) -> None:
        self.wanted.append(node)

    def learn(self, node: bytes, address: str) -> None:
        self.learned[node] = address

    def bury(self, node: bytes, reason: str) -> None:
        self.buried.append(node)

    def run(self, start_ms: int, end_ms: int, *heard: bytes) -> None:
        for now_ms in range(start_ms, end_ms, TICK_MS):
            for node in heard:
                self.head.on_load(node, load(now_ms, 0), now_ms)
            self.head.tick(now_ms)

    def link(self, node: bytes, now_ms: int) -> bool:
        hello = Hello(PROTOCOL, "1", node, b"", f"{node.hex()}:1", False, Resources())
        return self.head.on_link_up(node, hello, now_ms)

    def free_of(self, node: bytes) -> int:
        return next(state.free.cpu for state in self.head.view().nodes if state.node_id == node)


def load(number: int, free: int) -> Load:
    return Load(number, Resources(10_000), Resources(free), [], 1, 0)


def test_a_head_that_has_come_back_keeps_its_members() -> None:
    deeds = Deeds([A, B])
    deeds.head.tick(TICK_MS)
    assert {A, B} <= {state.node_id for state in deeds.head.view().nodes}
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


def test_a_silent_node_is_dead_when_peers_do_not_hear_it_either() -> None:
    deeds = Deeds()
    for node in A, B:
        deeds.link(node, 0)
    deeds.run(0, SUSPECT_MS + TICK_MS, A)
    assert (A, Inquiry(B)) in deeds.sent
    assert (B, Inquiry(B)) not in deeds.sent
    deeds.head.on_sighting(A, Sighting(B, 1_000), SUSPECT_MS)
    deeds.run(SUSPECT_MS, DEAD_MS + TICK_MS, A)
    assert deeds.buried == []
    deeds.head.on_sighting(A, Sighting(B, None), DEAD_MS)
    deeds.run(DEAD_MS, DEAD_MS + SUSPECT_MS, A)
    assert deeds.buried == [B]


def test_nobody_hears_of_a_death_before_the_control_store_has_it() -> None:
    deeds = Deeds()
    for node in A, B:
        deeds.link(node, 0)
    deeds.is_store_up = False
    deeds.run(0, DEAD_MS + 1_000, A)
    assert deeds.table[B].dead
    assert deeds.buried == []
    assert B in deeds.pictures[A]
    assert deeds.head.view().dead == []
    deeds.is_store_up = True
    deeds.write(A, deeds.table[A])
    deeds.run(DEAD_MS + 1_000, DEAD_MS + 3_000, A)
    assert deeds.buried == [B]
    assert B not in deeds.pictures[A]
    assert deeds.head.view().dead == [B]


def test_a_dead_node_stays_dead_also_under_the_next_head() -> None:
    deeds = Deeds()
    deeds.link(A, 0)
    deeds.run(0, DEAD_MS + TICK_MS)
    assert deeds.buried == [A]
    assert not deeds.link(A, DEAD_MS + 1_000)
    after = Deeds()
    after.head.read(deeds.table, 0)
    assert not after.link(A, 1)
    assert after.head.view().dead == [A]


def test_what_a_node_knows_of_deaths_reaches_a_head_without_a_table() -> None:
    deeds = Deeds()
    deeds.link(A, 0)
    deeds.head.on_load(A, Load(1, Resources(), Resources(), [], 1, 0, dead=[B]), 1)
    assert not deeds.link(B, 2)
    assert deeds.table[B].dead
    assert deeds.head.view().dead == [B]


def test_a_node_that_died_without_a_head_is_found_soon_after_the_start_of_one() -> None:
    before = Deeds()
    for node in A, B:
        before.link(node, 0)
    deeds = Deeds()
    deeds.head.read(before.table, 0)
    assert deeds.learned == {node: f"{node.hex()}:1" for node in (A, B)}
    deeds.link(A, 100)
    deeds.run(TICK_MS, ASK_AGAIN_MS + TICK_MS, A)
    assert deeds.wanted == [B]
    deeds.head.on_refused(B, ASK_AGAIN_MS)
    deeds.head.on_refused(B, ASK_AGAIN_MS + REFUSED_AGAIN_MS)
    assert deeds.buried == [B]


def test_members_of_a_head_without_a_table_are_looked_for_when_others_miss_them() -> None:
    deeds = Deeds()
    deeds.link(A, 0)
    missed = [NodeState(B, "there:1", Resources(), Resources(), 0)]
    assert deeds.head.on_missed(A, missed, 10) == []
    assert deeds.table[B] == NodeEntry("there:1")
    assert deeds.learned == {B: "there:1"}
    assert {state.node_id for state in deeds.head.view().nodes} >= {A, B}
    deeds.run(TICK_MS, ASK_AGAIN_MS + 2 * TICK_MS, A)
    assert deeds.wanted == [B]
    deeds.head.on_refused(B, ASK_AGAIN_MS)
    deeds.head.on_refused(B, ASK_AGAIN_MS + REFUSED_AGAIN_MS)
    assert deeds.buried == [B]
    assert deeds.head.on_missed(A, missed, 3_000) == [B]


def test_another_incarnation_at_the_same_place_is_the_death_of_the_first() -> None:
    deeds = Deeds()
    deeds.link(A, 0)
    deeds.head.on_replaced(A, B, 10)
    assert deeds.buried == [A]
    assert deeds.link(B, 11)


def test_what_has_changed_is_told_and_no_more() -> None:
    deeds = Deeds()
    deeds.link(HEAD, 0)
    for node in A, B:
        deeds.link(node, 0)
        deeds.head.on_load(node, load(1, 0), 0)
    deeds.run(0, LEAST_MS + TICK_MS, A, B)
    assert deeds.pictures[A].keys() == {HEAD, A, B}
    deeds.views.clear()
    deeds.head.on_load(B, load(2, 10_000), 300)
    deeds.head.tick(300 + LEAST_MS)
    (view,) = deeds.views
    assert [state.node_id for state in view.nodes] == [B]
    assert deeds.pictures[A][B].free.cpu == 10_000


def test_a_new_link_is_told_everything() -> None:
    deeds = Deeds()
    for node in A, B:
        deeds.link(node, 0)
    deeds.head.tick(LEAST_MS)
    deeds.head.on_link_down(A, 150)
    deeds.link(A, 160)
    deeds.pictures[A].clear()
    deeds.head.tick(3 * LEAST_MS)
    assert deeds.pictures[A].keys() == {A, B}
    assert sorted(len(view.nodes) for view in deeds.views[-2:]) == [1, 2]
