from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray.policy.cluster.membership import (
    DEAD_MS,
    GRACE_MS,
    HEARD_MS,
    MINORITY_DEAD_MS,
    REFUSED_AGAIN_MS,
    STALL_MS,
    SUSPECT_MS,
    TICK_MS,
    Action,
    AskPeers,
    Authority,
    Cause,
    Connect,
    DeclareDead,
    NodeId,
)

HEAD, B, C, D = b"head", b"b", b"c", b"d"


@dataclass
class Scene:
    """An authority, its clock, and who is heard of at each tick."""

    alive: set[NodeId] = field(default_factory=lambda: {B, C, D})
    now_ms: int = 1_000_000
    seen: list[tuple[int, Action]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.authority = Authority(HEAD, self.now_ms)
        for node in sorted(self.alive):
            self.authority.joined(node, None, self.now_ms)
            self.authority.linked(node, self.now_ms)
        self.start_ms = self.now_ms

    def do(self, actions: list[Action]) -> list[Action]:
        self.seen += [(self.now_ms - self.start_ms, action) for action in actions]
        return actions

    def run(self, duration_ms: int, step_ms: int = TICK_MS) -> None:
        end_ms = self.now_ms + duration_ms
        while self.now_ms < end_ms:
            self.now_ms += step_ms
            for node in sorted(self.alive):
                self.authority.heard(node, self.now_ms)
            self.do(self.authority.tick(self.now_ms))

    def deaths(self) -> dict[NodeId, tuple[int, Cause]]:
        return {
            action.node: (at_ms, action.cause)
            for at_ms, action in self.seen
            if isinstance(action, DeclareDead)
        }


def test_nobody_dies_who_is_heard() -> None:
    scene = Scene()
    scene.run(60_000)
    assert scene.seen == []
    assert scene.authority.members() == [HEAD, B, C, D]


def test_a_killed_node_is_dead_within_a_second() -> None:
    scene = Scene()
    scene.alive.remove(B)
    assert scene.do(scene.authority.unlinked(B, scene.now_ms)) == [Connect(B)]
    assert scene.authority.refused(B, scene.now_ms) == []
    for _ in range(4):
        before = len(scene.seen)
        scene.run(TICK_MS)
        if any(action == Connect(B) for _, action in scene.seen[before:]):
            scene.do(scene.authority.refused(B, scene.now_ms))
    at_ms, cause = scene.deaths()[B]
    assert cause == Cause.REFUSED
    assert at_ms < 1_000
    assert scene.authority.members() == [HEAD, C, D]


def test_a_node_manager_that_is_restarted_kills_nobody() -> None:
    scene = Scene()
    scene.authority.unlinked(B, scene.now_ms)
    scene.alive.remove(B)
    scene.run(5_000)  # its keeper holds the socket: connecting neither fails nor succeeds
    assert scene.authority.suspected() == [B]
    scene.authority.linked(B, scene.now_ms)
    assert scene.authority.suspected() == []
    scene.run(5_000)
    assert scene.deaths() == {}


def test_a_refusal_before_a_sign_of_life_is_forgotten() -> None:
    scene = Scene()
    scene.authority.refused(B, scene.now_ms)
    scene.run(1_000)
    assert scene.authority.refused(B, scene.now_ms) == []


def test_a_silent_node_is_dead_within_ten_seconds() -> None:
    scene = Scene()
    scene.alive.remove(B)
    scene.run(10_000)
    assert scene.deaths() == {B: (DEAD_MS, Cause.SILENT)}
    asked = [action for _, action in scene.seen if isinstance(action, AskPeers)]
    assert asked[0] == AskPeers(B, (C, D))


def test_a_node_that_a_peer_hears_lives() -> None:
    scene = Scene()
    scene.alive.remove(B)
    for _ in range(60):
        before = len(scene.seen)
        scene.run(1_000)
        for _, action in scene.seen[before:]:
            if isinstance(action, AskPeers):
                assert B not in action.peers
                scene.authority.reported(C, B, 500, scene.now_ms)
                scene.authority.reported(D, B, None, scene.now_ms)
    assert scene.deaths() == {}
    assert B in scene.authority.members()


def test_who_is_no_member_has_nothing_to_say() -> None:
    scene = Scene()
    scene.authority.left(C, scene.now_ms)
    scene.alive -= {B, C}
    for _ in range(10):
        scene.run(1_000)
        scene.authority.reported(C, B, 0, scene.now_ms)
    assert B in scene.deaths()


def test_while_the_control_store_is_down_nobody_dies() -> None:
    scene = Scene()
    scene.authority.store_changed(False, scene.now_ms)
    scene.alive.clear()
    scene.authority.unlinked(B, scene.now_ms)
    for _ in range(120):
        scene.run(1_000)
        scene.do(scene.authority.refused(B, scene.now_ms))
    assert scene.deaths() == {}


def test_leases_begin_anew_when_it_is_back() -> None:
    scene = Scene()
    scene.authority.store_changed(False, scene.now_ms)
    scene.alive.remove(B)
    scene.run(100_000)
    scene.authority.store_changed(True, scene.now_ms)
    scene.run(GRACE_MS + DEAD_MS + TICK_MS)
    assert scene.deaths() == {B: (100_000 + GRACE_MS + DEAD_MS, Cause.SILENT)}


def test_a_restarted_head_waits_for_everybody() -> None:
    now_ms = 5
    authority = Authority.restarted(HEAD, [HEAD, B, C], {D: Cause.SILENT}, now_ms)
    assert authority.members() == [HEAD, B, C]
    authority.joined(D, None, now_ms)
    assert D not in authority.members()
    died = []
    while now_ms < GRACE_MS + DEAD_MS + 1_000:
        now_ms += TICK_MS
        authority.heard(C, now_ms)
        died += [(now_ms, a.node) for a in authority.tick(now_ms) if isinstance(a, DeclareDead)]
    assert [node for _, node in died] == [B]
    assert died[0][0] >= GRACE_MS + DEAD_MS


def test_a_head_that_is_cut_off_waits_long() -> None:
    scene = Scene()
    scene.alive.clear()
    scene.run(MINORITY_DEAD_MS - 2 * TICK_MS)
    assert scene.deaths() == {}
    scene.run(2 * TICK_MS)
    assert set(scene.deaths()) == {B, C, D}


def test_two_of_four_are_enough() -> None:
    scene = Scene()
    scene.alive = {B}
    scene.run(10_000)
    assert set(scene.deaths()) == {C, D}


def test_time_in_which_the_head_did_not_run_is_nobodys_silence() -> None:
    scene = Scene()
    scene.now_ms += 10 * DEAD_MS
    scene.do(scene.authority.tick(scene.now_ms))
    assert scene.deaths() == {}
    assert scene.authority.suspected() == []


def test_a_new_incarnation_ends_the_old_one() -> None:
    scene = Scene()
    (action,) = scene.authority.joined(b"b2", B, scene.now_ms)
    assert action == DeclareDead(B, Cause.REPLACED, 0)
    assert scene.authority.members() == [HEAD, C, D, b"b2"]
    scene.authority.joined(B, None, scene.now_ms)
    scene.authority.linked(B, scene.now_ms)
    assert B not in scene.authority.members()


def test_leaving() -> None:
    scene = Scene()
    assert scene.authority.left(B, scene.now_ms) == [DeclareDead(B, Cause.LEFT, 0)]
    assert scene.authority.left(B, scene.now_ms) == []


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_random_lives(data: st.DataObject) -> None:
    """Whoever is heard at least every 2 s lives; whoever is not, for 10 s with the store up, does not."""
    nodes = [bytes([65 + index]) for index in range(data.draw(st.integers(2, 8), label="nodes"))]
    silent = set(
        data.draw(st.lists(st.sampled_from(nodes), unique=True, max_size=len(nodes) // 2), label="silent")
    )
    late_ms = {node: data.draw(st.integers(100, 2_000), label="period") for node in nodes}
    step = st.integers(TICK_MS // 2, STALL_MS - 1)
    authority = Authority(HEAD, 0)
    for node in nodes:
        authority.joined(node, None, 0)
    last = dict.fromkeys(nodes, 0)
    now_ms = 0
    dead: dict[NodeId, int] = {}
    while now_ms < 15_000:
        now_ms += data.draw(step)
        for node in nodes:
            if node not in silent and now_ms - last[node] >= late_ms[node]:
                last[node] = now_ms
                authority.heard(node, now_ms)
        for action in authority.tick(now_ms):
            if isinstance(action, DeclareDead):
                assert action.node in silent
                assert now_ms - action.silent_ms == 0
                dead[action.node] = now_ms
    assert set(dead) == silent
    assert all(DEAD_MS <= at_ms < DEAD_MS + STALL_MS for at_ms in dead.values())


def test_the_figures_agree() -> None:
    assert TICK_MS < STALL_MS < SUSPECT_MS < HEARD_MS < DEAD_MS < MINORITY_DEAD_MS
    assert 2 * (TICK_MS + REFUSED_AGAIN_MS) < 1_000


@pytest.mark.parametrize("unknown", [b"nobody", HEAD])
def test_events_about_others_are_passed_over(unknown: NodeId) -> None:
    scene = Scene()
    authority = scene.authority
    authority.heard(unknown, 0)
    authority.linked(unknown, 0)
    authority.reported(B, unknown, 0, 0)
    assert authority.unlinked(unknown, 0) == authority.refused(unknown, 0) == authority.left(unknown, 0) == []
    assert authority.members() == [HEAD, B, C, D]
