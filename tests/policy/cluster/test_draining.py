"""When a node that drains is done."""

from ray.policy.cluster.draining import OFFERED_AT_ONCE, Drain, Leave, Offer, Seen

A, B = b"a", b"b"
X, Y = b"x", b"y"


def seen(
    lent: dict[bytes, list[bytes]] | None = None,
    tasks: int = 0,
    drivers: int = 0,
    unreturned: int = 0,
    owned: tuple[bytes, ...] = (),
) -> Seen:
    return Seen(tasks, drivers, unreturned, lent or {}, frozenset(owned))


def test_a_node_with_nothing_leaves_at_once() -> None:
    assert Drain(1_000).look(seen(), 0) == [Leave(0, 0, 0)]


def test_it_waits_for_tasks_drivers_and_results_that_nobody_has_yet() -> None:
    drain = Drain(1_000)
    assert drain.look(seen(tasks=1), 0) == []
    assert drain.look(seen(drivers=1), 10) == []
    assert drain.look(seen(unreturned=1), 20) == []
    assert drain.look(seen(), 30) == [Leave(0, 0, 0)]


def test_what_is_lent_is_offered_once_and_left_when_it_is_taken() -> None:
    drain = Drain(1_000)
    both = seen({A: [X], B: [X, Y]}, owned=(X, Y))
    assert drain.look(both, 0) == [Offer(A, (X,)), Offer(B, (X, Y))]
    assert drain.look(both, 10) == []
    drain.taken(A, [X])
    drain.taken(B, [X])
    assert drain.look(both, 20) == []
    drain.taken(B, [Y])
    assert drain.look(both, 30) == [Leave(0, 0, 0)]


def test_an_id_that_is_lent_later_is_offered_later() -> None:
    drain = Drain(1_000)
    drain.look(seen({A: [X]}, owned=(X,)), 0)
    drain.taken(A, [X])  # and with it came another
    assert drain.look(seen({A: [X, Y]}, owned=(X, Y)), 10) == [Offer(A, (Y,))]


def test_a_result_of_anothers_task_is_offered_and_counts_until_it_is_returned() -> None:
    drain = Drain(1_000)
    assert drain.look(seen({A: [X]}, unreturned=1), 0) == [Offer(A, (X,))]
    drain.taken(A, [X])
    assert drain.look(seen({A: [X]}, unreturned=1), 10) == []
    assert drain.look(seen({A: []}), 20) == [Leave(0, 0, 0)]


def test_after_a_broken_link_all_is_offered_again() -> None:
    drain = Drain(1_000)
    lent = seen({A: [X], B: [Y]}, owned=(X, Y))
    drain.look(lent, 0)
    drain.unlinked(A)
    assert drain.look(lent, 10) == [Offer(A, (X,))]


def test_what_was_returned_and_is_lent_again_is_to_be_taken_again() -> None:
    drain = Drain(1_000)
    lent = seen({A: [X]}, owned=(X,))
    drain.look(lent, 0)
    drain.taken(A, [X])
    drain.returned(A, [X])
    drain.returned(B, [X])
    assert drain.look(lent, 10) == [Offer(A, (X,))]
    drain.taken(A, [X])
    assert drain.look(lent, 20) == [Leave(0, 0, 0)]


def test_at_the_deadline_it_leaves_and_says_what_it_leaves_behind() -> None:
    drain = Drain(1_000)
    lent = seen({A: [X, Y]}, tasks=2, drivers=1, owned=(X, Y))
    assert drain.look(lent, 999) == [Offer(A, (X, Y))]
    drain.taken(A, [X])
    (end,) = drain.look(lent, 1_000)
    assert end == Leave(2, 1, 1)
    assert not end.is_clean


def test_many_ids_go_in_bounded_pieces() -> None:
    ids = [str(number).encode() for number in range(2 * OFFERED_AT_ONCE + 1)]
    actions = Drain(1_000).look(seen({A: ids}, owned=tuple(ids)), 0)
    assert [len(each.ids) for each in actions if isinstance(each, Offer)] == [
        OFFERED_AT_ONCE,
        OFFERED_AT_ONCE,
        1,
    ]
