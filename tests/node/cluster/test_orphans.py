"""Whom a node asks for what a dead node owned, and when it stops."""

from ray.node.cluster.orphans import TICKS, Orphans

OWNER, FIRST, SECOND, OTHER = 1, 2, 3, 4


def orphans(**lenders: list[int]) -> Orphans:
    found = Orphans()
    found.add(OWNER, {raw.encode(): to for raw, to in lenders.items()}, [])
    return found


def test_who_has_passed_it_on_is_asked_instead_of_the_dead_owner() -> None:
    known = orphans(x=[FIRST, SECOND])
    assert known.holder(b"x", OWNER) == FIRST
    assert known.holder(b"x", OTHER) == OTHER
    assert known.holder(b"y", OWNER) == OWNER
    known.refused(b"x", OWNER, FIRST)
    assert known.holder(b"x", OWNER) == SECOND
    known.gone(SECOND)
    assert known.holder(b"x", OWNER) == OWNER
    assert known.tick(lambda raw: False) == [OWNER]
    assert not known


def test_the_dead_node_is_buried_when_everything_is_there() -> None:
    known = orphans(x=[FIRST], y=[FIRST])
    assert known.tick(lambda raw: raw == b"x") == []
    assert known.tick(lambda raw: raw == b"y") == [OWNER]


def test_nobody_is_waited_for_for_ever() -> None:
    known = orphans(x=[FIRST])
    assert [bool(known.tick(lambda raw: False)) for _ in range(TICKS)] == [False] * (TICKS - 1) + [True]


def test_at_the_end_of_an_incarnation_nobody_is_waited_for() -> None:
    known = orphans(x=[FIRST])
    assert known.end() == [OWNER]
    assert not known
