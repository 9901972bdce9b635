"""Whom a node asks for what a dead node owned, and when it stops."""

from typing import Any

from ray.node.cluster.orphans import AT_ONCE, FETCH_TICKS, TICKS, Orphans

OWNER, FIRST, SECOND, OTHER = 1, 2, 3, 4
NODE = b"the dead one"


def orphans(*ids: bytes, others: tuple[int, ...] = (FIRST, SECOND)) -> Orphans:
    found = Orphans()
    held: dict[bytes, Any] = {raw: raw for raw in ids}
    found.add(OWNER, NODE, held, list(others))
    return found


def lost(known: Orphans) -> list[bytes]:
    return [raw for _, raw, _ in known.lost()]


def nothing_is_here(raw: bytes) -> bool:
    return False


def test_whoever_has_a_copy_is_asked_instead_of_the_dead_owner() -> None:
    known = orphans(b"x")
    assert known.number(NODE) == OWNER
    assert known.questions() == [(FIRST, NODE, [b"x"]), (SECOND, NODE, [b"x"])]
    assert known.questions() == []
    assert known.holder(b"x", OWNER) == OWNER
    assert known.answered(OWNER, FIRST, [b"x"]) == [b"x"]
    assert known.answered(OWNER, SECOND, [b"x"]) == []  # it is known already that one has it
    assert known.holder(b"x", OWNER) == FIRST
    assert known.holder(b"x", OTHER) == OTHER
    known.refused(b"x", OWNER, FIRST)
    assert known.holder(b"x", OWNER) == SECOND
    assert lost(known) == []
    known.tick(lambda raw: raw == b"x")
    assert known.over() == [OWNER]
    assert not known


def test_what_nobody_has_is_lost_as_soon_as_all_have_said_so() -> None:
    known = orphans(b"x", b"y")
    known.questions()
    known.answered(OWNER, FIRST, [b"x"])
    assert lost(known) == []
    known.answered(OWNER, SECOND, [])
    assert lost(known) == [b"y"]
    assert known.over() == []
    known.gone(FIRST)
    assert known.questions() == [(SECOND, NODE, [b"x"])]
    known.answered(OWNER, SECOND, [])
    assert lost(known) == [b"x"]
    assert known.over() == [OWNER]


def test_who_was_asked_before_an_id_was_missed_again_is_asked_for_it() -> None:
    known = orphans(b"x", b"y", others=tuple(range(2, 3 + AT_ONCE)))
    assert len(known.questions()) == AT_ONCE
    assert known.answered(OWNER, 2, [b"x"]) == [b"x"]
    last = 2 + AT_ONCE
    assert known.questions() == [(last, NODE, [b"y"])]
    known.refused(b"x", OWNER, 2)
    for other in range(3, last + 1):
        known.answered(OWNER, other, [])
    assert known.questions() == [(2, NODE, [b"x", b"y"]), (last, NODE, [b"x", b"y"])]
    known.answered(OWNER, 2, [b"x"])  # as it had said before, and it had none
    known.answered(OWNER, last, [])
    assert lost(known) == [b"x", b"y"]


def test_a_question_goes_again_over_the_next_link() -> None:
    known = orphans(b"x", others=(FIRST,))
    known.questions()
    known.synced(FIRST)
    assert known.questions() == [(FIRST, NODE, [b"x"])]
    known.answered(OWNER, FIRST, [b"x"])
    known.unlinked(FIRST)
    assert known.holder(b"x", OWNER) == OWNER
    assert known.questions() == [(FIRST, NODE, [b"x"])]


def test_nobody_is_waited_for_for_ever() -> None:
    known = orphans(b"x")
    known.questions()
    for _ in range(TICKS - 1):
        known.tick(nothing_is_here)
    assert lost(known) == []
    known.tick(nothing_is_here)
    assert lost(known) == [b"x"]
    assert known.over() == [OWNER]


def test_a_value_on_its_way_is_waited_for_longer() -> None:
    known = orphans(b"x")
    known.questions()
    known.answered(OWNER, FIRST, [b"x"])
    for _ in range(FETCH_TICKS - 1):
        known.tick(nothing_is_here)
    assert lost(known) == []
    known.tick(nothing_is_here)
    assert lost(known) == [b"x"]


def test_at_the_end_of_an_incarnation_nobody_is_waited_for() -> None:
    known = orphans(b"x")
    assert known.end() == [OWNER]
    assert not known
