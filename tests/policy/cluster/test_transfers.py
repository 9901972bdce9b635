from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray.policy.cluster.transfers import (
    PATIENCE_TICKS,
    PIECE_BYTES,
    PIECES_FROM_ONE,
    RECEIVERS_OF_ONE,
    SOURCES_OF_ONE,
    Abandon,
    Action,
    Admit,
    Answer,
    AskSources,
    Fetch,
    Finish,
    Pulls,
    Rank,
    Spread,
)

X, Y, Z = b"x", b"y", b"z"
B, C = b"b", b"c"
ROOM = 100 * PIECE_BYTES


def fetches(actions: list[Action]) -> list[Fetch]:
    return [action for action in actions if isinstance(action, Fetch)]


def test_a_value_of_one_piece() -> None:
    pulls = Pulls(ROOM)
    assert pulls.wanted(X, 10, Rank.USER, [B]) == [Admit(X, 10), Fetch(X, B, 0, 10)]
    assert pulls.arrived(X, B, 0) == [Finish(X)]
    assert pulls.admitted_bytes == 0


def test_an_empty_value() -> None:
    pulls = Pulls(ROOM)
    assert pulls.wanted(X, 0, Rank.USER, [B]) == [Admit(X, 0), Fetch(X, B, 0, 0)]
    assert pulls.arrived(X, B, 0) == [Finish(X)]


def test_several_sources_at_once() -> None:
    pulls = Pulls(ROOM)
    asked = fetches(pulls.wanted(X, 10 * PIECE_BYTES, Rank.USER, [B, C]))
    assert [fetch.source for fetch in asked] == [B, C] * PIECES_FROM_ONE
    assert [fetch.offset for fetch in asked] == [index * PIECE_BYTES for index in range(2 * PIECES_FROM_ONE)]


def test_the_last_piece_is_shorter() -> None:
    pulls = Pulls(ROOM)
    asked = fetches(pulls.wanted(X, PIECE_BYTES + 3, Rank.USER, [B]))
    assert [fetch.length for fetch in asked] == [PIECE_BYTES, 3]


def test_requests_share_one_transfer() -> None:
    pulls = Pulls(ROOM)
    pulls.wanted(X, 10, Rank.TASK, [B])
    assert pulls.wanted(X, 10, Rank.USER, [B]) == []


def test_a_broken_source_and_others() -> None:
    pulls = Pulls(ROOM)
    pulls.wanted(X, 4 * PIECE_BYTES, Rank.USER, [B, C])
    assert pulls.arrived(X, B, 0) == []
    again = pulls.failed(X, B, 2 * PIECE_BYTES)
    assert again == []  # the other source is busy; it gets the piece next
    (fetch,) = pulls.arrived(X, C, PIECE_BYTES)
    assert fetch == Fetch(X, C, 2 * PIECE_BYTES, PIECE_BYTES)
    assert pulls.arrived(X, C, 3 * PIECE_BYTES) == []
    assert pulls.arrived(X, C, 2 * PIECE_BYTES) == [Finish(X)]


def test_the_last_source_breaks_and_it_goes_on_from_where_it_was() -> None:
    pulls = Pulls(ROOM)
    pulls.wanted(X, 2 * PIECE_BYTES, Rank.USER, [B])
    pulls.arrived(X, B, 0)
    assert pulls.gone(B) == [AskSources(X)]
    assert pulls.gone(B) == []
    assert pulls.found(X, [C]) == [Fetch(X, C, PIECE_BYTES, PIECE_BYTES)]
    assert pulls.arrived(X, C, PIECE_BYTES) == [Finish(X)]


def test_what_arrives_from_somebody_given_up_is_passed_over() -> None:
    pulls = Pulls(ROOM)
    pulls.wanted(X, 10, Rank.USER, [B, C])
    pulls.failed(X, B, 0)
    assert pulls.arrived(X, B, 0) == []
    assert pulls.arrived(X, C, 0) == [Finish(X)]


def test_a_value_without_a_source_takes_no_room() -> None:
    pulls = Pulls(ROOM)
    assert pulls.wanted(X, 10, Rank.USER, []) == [AskSources(X)]
    assert pulls.admitted_bytes == 0
    assert pulls.found(X, [B]) == [Admit(X, 10), Fetch(X, B, 0, 10)]


def test_a_user_goes_first() -> None:
    pulls = Pulls(2 * PIECE_BYTES)
    pulls.wanted(X, 2 * PIECE_BYTES, Rank.TASK, [B])
    assert pulls.wanted(Y, PIECE_BYTES, Rank.TASK, [B]) == []
    assert pulls.wanted(Z, PIECE_BYTES, Rank.USER, [B]) == []
    pulls.arrived(X, B, 0)
    admitted = pulls.arrived(X, B, PIECE_BYTES)
    assert [action.key for action in admitted if isinstance(action, Admit)] == [Z, Y]
    assert fetches(admitted)[0].key == Z


def test_what_a_user_has_come_to_wait_for_goes_on_first() -> None:
    pulls = Pulls(ROOM)
    pulls.wanted(X, 4 * PIECE_BYTES, Rank.TASK, [B])
    assert not fetches(pulls.wanted(Y, 4 * PIECE_BYTES, Rank.TASK, [B]))
    pulls.hurry(Y, Rank.USER)
    assert [fetch.key for fetch in fetches(pulls.arrived(X, B, 0))] == [Y]
    pulls.hurry(Y, Rank.TASK)  # nothing becomes less urgent
    assert [fetch.key for fetch in fetches(pulls.arrived(X, B, PIECE_BYTES))] == [Y]
    pulls.hurry(Z, Rank.USER)  # which is here by now
    assert [fetch.key for fetch in fetches(pulls.arrived(Y, B, 0))] == [Y]


def test_a_prefetch_makes_room() -> None:
    pulls = Pulls(4 * PIECE_BYTES)
    pulls.wanted(X, 2 * PIECE_BYTES, Rank.PREFETCH, [B])
    actions = pulls.wanted(Y, 3 * PIECE_BYTES, Rank.TASK, [C])
    assert actions[:2] == [Abandon(X), Admit(Y, 3 * PIECE_BYTES)]
    for offset in (0, 1, 2):
        actions = pulls.arrived(Y, C, offset * PIECE_BYTES)
    assert actions[:2] == [Finish(Y), Admit(X, 2 * PIECE_BYTES)]


def test_prefetches_have_half_of_the_room() -> None:
    pulls = Pulls(4 * PIECE_BYTES)
    pulls.wanted(X, 2 * PIECE_BYTES, Rank.PREFETCH, [B])
    assert pulls.wanted(Y, 1, Rank.PREFETCH, [B]) == []
    assert Admit(Y, 1) in pulls.wanted(Y, 1, Rank.TASK, [B])


def test_nobody_goes_by_a_large_one() -> None:
    pulls = Pulls(4 * PIECE_BYTES)
    pulls.wanted(X, 3 * PIECE_BYTES, Rank.TASK, [B])
    pulls.wanted(Y, 2 * PIECE_BYTES, Rank.TASK, [B])
    assert pulls.wanted(Z, 1, Rank.TASK, [B]) == []


def test_one_that_is_larger_than_the_room_comes_alone() -> None:
    pulls = Pulls(PIECE_BYTES)
    pulls.wanted(Y, 1, Rank.USER, [B])
    assert pulls.wanted(X, 3 * PIECE_BYTES, Rank.USER, [B]) == []
    assert Admit(X, 3 * PIECE_BYTES) in pulls.arrived(Y, B, 0)


def test_room_that_comes_back() -> None:
    pulls = Pulls(1)
    pulls.wanted(X, 1, Rank.TASK, [B])
    assert pulls.wanted(Y, 1, Rank.TASK, [B]) == []
    assert pulls.room_changed(2) == [Admit(Y, 1), Fetch(Y, B, 0, 1)]


def test_unwanted() -> None:
    pulls = Pulls(ROOM)
    pulls.wanted(X, 10, Rank.TASK, [B])
    assert pulls.unwanted(X) == [Abandon(X)]
    assert pulls.unwanted(X) == []
    assert pulls.arrived(X, B, 0) == []


@settings(max_examples=80, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 12), st.integers(1, 5), st.integers(1, 8))
def test_everything_comes_once_and_within_the_room(
    random: Random, values: int, nodes: int, room_pieces: int
) -> None:
    room = room_pieces * PIECE_BYTES
    pulls = Pulls(room)
    sizes = {bytes([97 + index]): random.randrange(room + 1) for index in range(values)}
    sources = [bytes([65 + index]) for index in range(nodes)]
    have: dict[bytes, set[int]] = {}
    coming: list[Fetch] = []
    finished: set[bytes] = set()

    def do(actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Admit):
                assert action.key not in have
                have[action.key] = set()
            elif isinstance(action, Fetch):
                assert action.key in have
                assert action.offset not in have[action.key]
                assert sum(each.source == action.source for each in coming) < PIECES_FROM_ONE
                coming.append(action)
            elif isinstance(action, Abandon):
                del have[action.key]
                coming[:] = [each for each in coming if each.key != action.key]
            elif isinstance(action, Finish):
                assert have.pop(action.key) == set(range(0, max(1, sizes[action.key]), PIECE_BYTES))
                finished.add(action.key)
            else:
                asked.append(action.key)
        assert pulls.admitted_bytes == sum(sizes[key] for key in have) <= room

    asked: list[bytes] = []
    left = list(sizes)
    for _ in range(3_000):
        choice = random.random()
        if left and choice < 0.2:
            key = left.pop()
            named = random.sample(sources, random.randint(0, nodes))
            do(pulls.wanted(key, sizes[key], random.choice(list(Rank)), named))
        elif coming and choice < 0.8:
            fetch = coming.pop(random.randrange(len(coming)))
            have[fetch.key].add(fetch.offset)
            do(pulls.arrived(fetch.key, fetch.source, fetch.offset))
        elif coming and choice < 0.85:
            fetch = random.choice(coming)
            coming.remove(fetch)
            do(pulls.failed(fetch.key, fetch.source, fetch.offset))
        elif asked:
            do(pulls.found(asked.pop(), random.sample(sources, random.randint(1, nodes))))
        elif not left and not coming:
            break
    assert finished == set(sizes)


def receivers(answers: list[Answer]) -> list[bytes]:
    return [answer.receiver for answer in answers]


def test_one_receiver_and_one_copy() -> None:
    spread = Spread()
    spread.has(X, B)
    assert spread.asked(X, C) == [Answer(X, C, (B,))]
    assert spread.has(X, C) == []
    assert spread.copies(X) == [B, C]


def test_a_value_that_is_not_made_yet() -> None:
    spread = Spread()
    assert spread.asked(X, C) == []
    assert spread.has(X, B) == [Answer(X, C, (B,))]


def test_several_copies_are_named_to_one_receiver() -> None:
    spread = Spread()
    nodes = [bytes([index]) for index in range(10)]
    for node in nodes:
        spread.has(X, node)
    (answer,) = spread.asked(X, C)
    assert answer.sources == tuple(nodes[:SOURCES_OF_ONE])
    (answer,) = spread.asked(X, b"d")
    assert answer.sources == tuple(nodes[SOURCES_OF_ONE : 2 * SOURCES_OF_ONE])


def test_a_source_that_fails_is_not_counted_for_ever() -> None:
    spread = Spread()
    spread.has(X, B)
    spread.asked(X, C)
    spread.lost(X, B)
    assert spread.asked(X, C) == []
    assert spread.has(X, b"d") == [Answer(X, C, (b"d",))]


def test_who_gives_up_makes_room_for_others() -> None:
    spread = Spread()
    spread.has(X, B)
    for index in range(RECEIVERS_OF_ONE):
        assert spread.asked(X, bytes([index]))
    assert spread.asked(X, C) == []
    assert spread.gave_up(X, b"\0") == [Answer(X, C, (B,))]
    assert spread.gone(C) == []
    spread.freed(X)
    assert spread.copies(X) == []
    assert spread.lost(X, B) == []
    assert spread.gave_up(X, B) == []


@pytest.mark.parametrize(("nodes", "rounds"), [(4, 2), (26, 3), (1_000, 7)])
def test_a_broadcast_takes_rounds_as_a_tree_does(nodes: int, rounds: int) -> None:
    """Each round a copy serves two: three times as many have it after each."""
    spread = Spread()
    spread.has(X, B)
    coming: list[Answer] = []
    for index in range(nodes):
        coming += spread.asked(X, index.to_bytes(2, "big"))
    taken = 0
    while coming:
        taken += 1
        done, coming = coming, []
        for answer in done:
            coming += spread.has(X, answer.receiver)
    assert taken <= rounds
    assert len(spread.copies(X)) == nodes + 1


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 30))
def test_no_source_serves_too_many_and_everybody_is_served(random: Random, nodes: int) -> None:
    spread = Spread()
    spread.has(X, B)
    names = [bytes([index]) for index in range(nodes)]
    fetching: dict[bytes, tuple[bytes, ...]] = {}
    done: set[bytes] = set()
    dead: set[bytes] = set()

    def take(answers: list[Answer]) -> None:
        for answer in answers:
            assert answer.receiver not in dead
            assert not set(answer.sources) & dead
            fetching[answer.receiver] = answer.sources
        for source in {source for sources in fetching.values() for source in sources}:
            assert sum(source in sources for sources in fetching.values()) <= RECEIVERS_OF_ONE

    left = list(names)
    while left or fetching:
        choice = random.random()
        if left and choice < 0.5:
            take(spread.asked(X, left.pop()))
        elif fetching and choice < 0.9:
            receiver = random.choice(sorted(fetching))
            del fetching[receiver]
            done.add(receiver)
            take(spread.has(X, receiver))
        elif fetching and len(dead) < 3:
            node = random.choice(sorted(fetching))
            dead.add(node)
            del fetching[node]
            take(spread.gone(node))
    assert done == set(names) - dead


def test_nobody_waits_for_ever_for_those_before_it() -> None:
    """They may have no room for what they were to fetch."""
    spread = Spread()
    spread.has(X, B)
    receivers = [bytes([number]) for number in range(RECEIVERS_OF_ONE + 1)]
    answers = [answer for receiver in receivers for answer in spread.asked(X, receiver)]
    assert [answer.receiver for answer in answers] == receivers[:-1]
    assert spread.anybody_waits
    for _ in range(PATIENCE_TICKS - 1):
        assert spread.tick() == []
    assert spread.tick() == [Answer(X, receivers[-1], (B,))]
    assert not spread.anybody_waits
    assert spread.tick() == []


def test_what_is_freed_says_who_still_waits() -> None:
    spread = Spread()
    spread.asked(X, C)
    assert spread.freed(X) == [C]
    assert spread.freed(X) == []
    assert not spread.knows(X)


def test_a_value_that_only_its_owner_has_is_forgotten() -> None:
    spread = Spread()
    spread.has(X, B)
    spread.asked(X, C)
    assert spread.sources_of(X, C) == (B,)
    spread.forget_if_only(B, X)
    spread.forget_idle()
    assert spread.keys == [X]  # it is being fetched
    spread.has(X, C)
    spread.forget_if_only(B, X)
    assert spread.knows(X)  # another has it, too
    spread.lost(X, C)
    spread.forget_if_only(B, X)
    assert not spread.knows(X)


def test_copies_are_forgotten_when_nobody_fetches() -> None:
    spread = Spread()
    spread.has(X, B)
    spread.has(X, C)
    spread.forget_idle()
    assert spread.keys == []
