import pytest

from ray.policy.cluster.reach import (
    AROUND_MS,
    BROKEN_MS,
    GIVE_UP_MS,
    PROBE_MS,
    RETRY_MS,
    Action,
    AskAround,
    Close,
    Connect,
    GiveUp,
    GoAround,
    Probe,
    Reach,
)

B, C = b"b", b"c"
TICK_MS = 250


def run(
    reach: Reach, start_ms: int, end_ms: int, echoing: set[bytes] | None = None
) -> list[tuple[int, Action]]:
    seen = []
    for now_ms in range(start_ms, end_ms + 1, TICK_MS):
        for action in reach.tick(now_ms):
            seen.append((now_ms, action))
            if isinstance(action, Probe) and action.peer in (echoing or set()):
                reach.echoed(action.peer, now_ms)
    return seen


def test_a_link_is_opened_once_when_it_is_needed() -> None:
    reach = Reach()
    assert reach.needed(B, 0) == [Connect(B)]
    assert reach.needed(B, 0) == []
    assert reach.way(B) is None
    assert reach.linked(B, 10) == [Probe(B)]
    assert reach.way(B) == B


def test_a_link_with_echoes_stays() -> None:
    reach = Reach()
    reach.linked(B, 0)
    seen = run(reach, 0, 60_000, {B})
    assert {action for _, action in seen} == {Probe(B)}
    assert len(seen) == 60_000 // PROBE_MS


def test_a_link_broken_in_one_direction_is_closed_at_both_ends() -> None:
    """Neither end gets echoes, though one of them hears the other."""
    for _ in "there", "back":
        reach = Reach()
        reach.linked(B, 0)
        seen = run(reach, 0, BROKEN_MS)
        assert seen[-2:] == [(BROKEN_MS, Close(B)), (BROKEN_MS, Connect(B))]
        assert reach.way(B) is None


def test_it_is_tried_again_and_again() -> None:
    reach = Reach()
    reach.needed(B, 0)
    assert len([a for _, a in run(reach, 0, 5_000) if a == Connect(B)]) == 5_000 // RETRY_MS


def test_a_link_that_was_reset_is_opened_again_at_once() -> None:
    reach = Reach()
    reach.linked(B, 0)
    assert reach.unlinked(B, 100) == [Connect(B)]
    assert reach.unlinked(B, 100) == []
    assert reach.linked(B, 200) == [Probe(B)]


def test_going_around() -> None:
    reach = Reach()
    reach.linked(C, 0)
    reach.linked(B, 0)
    seen = run(reach, 0, AROUND_MS + 500, {C})
    assert any(action == AskAround(B) and at_ms >= AROUND_MS for at_ms, action in seen)
    assert reach.relay_offered(B, C) == [GoAround(B, C)]
    assert reach.relay_offered(B, C) == []
    assert reach.way(B) == C
    later = run(reach, AROUND_MS + 750, 40_000, {C})
    assert not any(isinstance(action, GiveUp | AskAround) for _, action in later)
    assert any(action == Connect(B) for _, action in later)
    reach.linked(B, 40_000)
    assert reach.way(B) == B


def test_a_typed_error_within_fifteen_seconds() -> None:
    reach = Reach()
    reach.linked(C, 0)
    reach.linked(B, 0)
    given_up = [at_ms for at_ms, action in run(reach, 0, 30_000, {C}) if isinstance(action, GiveUp)]
    assert given_up == [GIVE_UP_MS]
    assert GIVE_UP_MS < 15_000


def test_the_one_in_between_is_lost() -> None:
    reach = Reach()
    reach.linked(C, 0)
    reach.needed(B, 0)
    run(reach, 0, AROUND_MS, {C})
    reach.relay_offered(B, C)
    reach.unlinked(C, AROUND_MS)
    seen = run(reach, AROUND_MS, AROUND_MS + 1_000)
    assert reach.way(B) is None
    assert any(action == AskAround(B) for _, action in seen)


def test_the_one_in_between_is_forgotten() -> None:
    reach = Reach()
    reach.linked(C, 0)
    reach.needed(B, 0)
    reach.relay_offered(B, C)
    reach.forgotten(C)
    assert reach.way(B) is None
    reach.forgotten(B)
    assert reach.tick(100_000) == []


@pytest.mark.parametrize("via", [B, b"unknown"])
def test_offers_that_lead_nowhere(via: bytes) -> None:
    reach = Reach()
    reach.needed(B, 0)
    assert reach.relay_offered(B, via) == []
    assert reach.relay_offered(C, via) == []
    assert reach.way(C) is None
    assert reach.unlinked(C, 0) == []
    reach.echoed(C, 0)
