from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from ray.policy.cluster import membership
from ray.policy.cluster.fencing import (
    ASK_MS,
    FENCE_MS,
    MAJORITY_FENCE_MS,
    RENEW_MS,
    Action,
    AskForHelp,
    Fence,
    FenceSelf,
    Rejoin,
    Resume,
)

TICK_MS = 250


def run(fence: Fence, start_ms: int, end_ms: int) -> list[tuple[int, Action]]:
    seen = []
    for now_ms in range(start_ms, end_ms + 1, TICK_MS):
        seen += [(now_ms, action) for action in fence.tick(now_ms)]
    return seen


def fencings(seen: list[tuple[int, Action]]) -> list[tuple[int, Action]]:
    return [(at_ms, action) for at_ms, action in seen if not isinstance(action, AskForHelp)]


def test_renewals_keep_it_free() -> None:
    fence = Fence(3, 0)
    for now_ms in range(0, 60_000, RENEW_MS):
        fence.renewed(now_ms)
        assert run(fence, now_ms, now_ms + RENEW_MS) == []
    assert fence.may_act(60_000)


def test_a_node_cut_off_asks_and_then_fences_itself() -> None:
    fence = Fence(5, 0)
    seen = run(fence, 0, 7_000)
    assert seen[0] == (ASK_MS, AskForHelp())
    assert fencings(seen) == [(FENCE_MS, FenceSelf(FENCE_MS))]
    assert not fence.may_act(7_000)


def test_a_renewal_passed_on_by_a_peer_counts_from_its_beginning() -> None:
    fence = Fence(5, 0)
    run(fence, 0, 5_000)
    fence.renewed(3_000)
    assert fencings(run(fence, 5_000, 8_750)) == []
    assert fencings(run(fence, 9_000, 9_000)) == [(9_000, FenceSelf(FENCE_MS))]


def test_it_goes_on_as_if_nothing_had_been() -> None:
    fence = Fence(5, 0)
    run(fence, 0, 20_000)
    fence.renewed(20_100)
    assert not fence.may_act(20_200)
    assert fencings(run(fence, 20_250, 21_000)) == [(20_250, Resume())]
    assert fence.may_act(21_000)


def test_a_machine_that_was_suspended_may_not_act_before_it_knows() -> None:
    fence = Fence(2, 0)
    assert not fence.may_act(3_600_000)


def test_declared_dead() -> None:
    fence = Fence(5, 0)
    assert fence.died() == [FenceSelf(0), Rejoin()]
    assert fence.died() == []
    fence.renewed(10)
    assert not fence.may_act(11)
    assert run(fence, 0, 10_000) == []


def test_declared_dead_while_fenced() -> None:
    fence = Fence(5, 0)
    run(fence, 0, 7_000)
    assert fence.died() == [Rejoin()]


def test_nobody_fences_while_the_heads_machine_refuses() -> None:
    fence = Fence(2, 0)
    for now_ms in range(0, 300_000, 500):
        fence.head_refused(now_ms)
        assert fencings(run(fence, now_ms, now_ms + 500)) == []
    assert fence.may_act(300_000)


def test_who_is_fenced_is_not_freed_by_a_refusal() -> None:
    fence = Fence(2, 0)
    run(fence, 0, 7_000)
    fence.head_refused(7_000)
    assert fencings(run(fence, 7_250, 8_000)) == []
    assert not fence.may_act(8_000)


def test_more_than_half_say_the_same() -> None:
    fence = Fence(4, 0)
    seen = []
    for now_ms in range(0, 60_000, 1_000):
        fence.peer_said(b"c", now_ms < FENCE_MS - 1_000, now_ms)
        fence.peer_said(b"d", now_ms < FENCE_MS - 1_000, now_ms)
        seen += fencings(run(fence, now_ms, now_ms + 750))
    assert seen == [(MAJORITY_FENCE_MS, FenceSelf(MAJORITY_FENCE_MS))]


def test_half_is_not_enough() -> None:
    fence = Fence(4, 0)
    seen = []
    for now_ms in range(0, 10_000, 1_000):
        fence.peer_said(b"c", now_ms < FENCE_MS - 1_000, now_ms)
        seen += fencings(run(fence, now_ms, now_ms + 750))
    assert seen == [(FENCE_MS, FenceSelf(FENCE_MS))]


def test_a_cluster_that_grows() -> None:
    fence = Fence(2, 0)
    fence.peer_said(b"c", False, 5_500)
    fence.members_changed(5)
    assert fencings(run(fence, 6_000, 6_000)) == [(6_000, FenceSelf(FENCE_MS))]


def test_the_figures_agree() -> None:
    assert RENEW_MS < ASK_MS < FENCE_MS < membership.DEAD_MS
    assert MAJORITY_FENCE_MS < membership.MINORITY_DEAD_MS
    # Clocks that differ by a thousandth, and a head that counts a node on its side that already says it is
    # cut off.
    assert membership.HEARD_MS < FENCE_MS


HEAD = b"head"


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 7).flatmap(
        lambda others: st.tuples(
            st.just(others),
            st.sets(st.integers(1, others)),  # on the head's side
            st.integers(0, 1_500),  # each message takes at most so long
            st.randoms(use_true_random=False),
        )
    )
)
def test_whoever_is_declared_dead_has_fenced_itself_before(
    case: tuple[int, set[int], int, Random],
) -> None:
    """A partition that lasts: the head's side and the other's, both policies, and messages that take time."""
    others, with_head, slowest_ms, random = case
    nodes = [bytes([index]) for index in range(1, others + 1)]
    side = {node: index in with_head for index, node in enumerate(nodes, start=1)}
    authority = membership.Authority(HEAD, 0)
    fences = {node: Fence(1 + others, 0) for node in nodes}
    for node in nodes:
        authority.joined(node, None, 0)
    mail: list[tuple[int, bytes, int]] = []  # arrives, from, begun
    dead: set[bytes] = set()
    cut_ms = 5_000
    for now_ms in range(0, 75_000, TICK_MS):
        for node, fence in fences.items():
            if now_ms % RENEW_MS == 0 and (now_ms < cut_ms or side[node]):
                mail.append((now_ms + random.randint(0, slowest_ms), node, now_ms))
            for own in fence.tick(now_ms):
                if isinstance(own, AskForHelp):
                    for peer in nodes:
                        if peer != node and side[peer] == side[node]:
                            fence.peer_said(peer, fences[peer].can_renew(now_ms), now_ms)
        for arrives_ms, node, begun_ms in list(mail):
            if arrives_ms <= now_ms:
                mail.remove((arrives_ms, node, begun_ms))
                authority.heard(node, now_ms)
                fences[node].renewed(begun_ms)
        for action in authority.tick(now_ms):
            if isinstance(action, membership.DeclareDead):
                assert not side[action.node]
                assert not fences[action.node].may_act(now_ms)
                dead.add(action.node)
    assert dead == {node for node in nodes if not side[node]}
