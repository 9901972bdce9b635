from ray.policy.cluster.reach import (
    AROUND_AGAIN_MS,
    AROUND_MS,
    BROKEN_MS,
    DIRECT_AGAIN_MS,
    PROBE_MS,
    STALL_MS,
    TICK_MS,
    Action,
    Close,
    GoAround,
    GoDirect,
    Probe,
    Reach,
)

B, C = b"b", b"c"
LATEST_MS = 15_000  # a way is found by then


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


def test_a_link_with_echoes_stays() -> None:
    reach = Reach(0)
    assert reach.linked(B, False, 0) == [Probe(B)]
    seen = run(reach, 0, 60_000, {B})
    assert {action for _, action in seen} == {Probe(B)}
    assert len(seen) == 60_000 // PROBE_MS


def test_a_link_broken_in_one_direction_is_closed_at_both_ends() -> None:
    """Neither end gets echoes, though one of them hears the other."""
    for _ in "there", "back":
        reach = Reach(0)
        reach.linked(B, False, 0)
        assert run(reach, 0, BROKEN_MS)[-1] == (BROKEN_MS, Close(B))
        assert run(reach, BROKEN_MS + TICK_MS, AROUND_MS - TICK_MS) == []


def test_who_is_not_reached_is_gone_around_until_somebody_does() -> None:
    reach = Reach(0)
    reach.needed(B, 0)
    seen = run(reach, 0, AROUND_MS + AROUND_AGAIN_MS)
    assert seen == [(AROUND_MS, GoAround(B)), (AROUND_MS + AROUND_AGAIN_MS, GoAround(B))]
    assert AROUND_MS + AROUND_AGAIN_MS < LATEST_MS
    reach.linked(B, True, 13_000)
    assert {action for _, action in run(reach, 13_000, 13_000 + DIRECT_AGAIN_MS - 1, {B})} == {Probe(B)}


def test_a_link_that_goes_around_is_replaced_when_that_can_be() -> None:
    reach = Reach(0)
    reach.linked(B, True, 0)
    seen = [at_ms for at_ms, action in run(reach, 0, 3 * DIRECT_AGAIN_MS, {B}) if action == GoDirect(B)]
    assert seen == [DIRECT_AGAIN_MS, 2 * DIRECT_AGAIN_MS, 3 * DIRECT_AGAIN_MS]
    reach.linked(B, False, 16_000)
    assert {action for _, action in run(reach, 16_000, 40_000, {B})} == {Probe(B)}


def test_a_link_that_went_around_and_breaks_goes_around_again_at_once() -> None:
    reach = Reach(0)
    reach.linked(B, True, 0)
    reach.unlinked(B, 1_000)
    assert run(reach, 1_000, 1_000) == [(1_000, GoAround(B))]
    reach.linked(B, False, 2_000)
    reach.unlinked(B, 3_000)
    assert run(reach, 3_000, 2_000 + AROUND_MS - TICK_MS) == []


def test_only_who_is_needed_is_tried() -> None:
    reach = Reach(0)
    reach.needed(B, 0)
    reach.linked(C, False, 0)
    reach.forgotten(B)
    reach.forgotten(C)
    assert run(reach, 0, 60_000) == []


def test_time_in_which_this_node_did_not_run_breaks_nothing() -> None:
    reach = Reach(0)
    reach.linked(B, False, 0)
    run(reach, 0, 2_000, {B})
    woken_ms = 2_000 + 10 * STALL_MS
    assert Close(B) not in reach.tick(woken_ms)
    assert Close(B) in [action for _, action in run(reach, woken_ms, woken_ms + BROKEN_MS + PROBE_MS)]
