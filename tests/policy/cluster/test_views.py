"""What readers are told is what is so, and no more of it than has changed."""

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from ray.policy.cluster.views import (
    ALL_TOLD,
    LEAST_MS,
    MAX_GONE,
    REPEAT_MS,
    Board,
    Edition,
    least_ms,
)


def node(number: int) -> bytes:
    return number.to_bytes(20, "big")


class World:
    """A board, what it is about, and what each reader makes of what it is told."""

    def __init__(self, nodes: int = 0) -> None:
        self.board = Board()
        self.states: dict[bytes, int] = {}
        self.pictures: dict[bytes, tuple[int, dict[bytes, int]]] = {}
        self.seekers: set[bytes] = set()
        self.now_ms = 0
        for number in range(nodes):
            self.come(node(number))

    def come(self, name: bytes) -> None:
        self.states[name] = 0
        self.board.come(name)
        self.link(name)

    def link(self, name: bytes) -> None:
        self.pictures[name] = (0, {})
        self.board.begin(name)

    def change(self, name: bytes) -> None:
        self.states[name] += 1
        self.board.change(name)

    def go(self, name: bytes) -> None:
        del self.states[name], self.pictures[name]
        self.board.go(name)

    def publish(self, after_ms: int = LEAST_MS) -> list[Edition]:
        self.now_ms += after_ms
        editions = self.board.publish(self.now_ms, self.seekers.__contains__)
        for edition in editions:
            for reader in edition.readers:
                number, picture = self.pictures[reader]
                assert edition.since <= number  # nothing is missing
                picture = picture if edition.since else {}
                picture.update({name: self.states[name] for name in edition.nodes})
                for name in edition.gone:
                    picture.pop(name, None)
                self.pictures[reader] = (edition.number, picture)
        return editions


def told(editions: list[Edition], reader: bytes) -> Edition | None:
    return next((edition for edition in editions if reader in edition.readers), None)


def size(edition: Edition | None) -> int:
    assert edition is not None
    return len(edition.nodes) + len(edition.gone)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["come", "change", "change", "go", "link", "seek", "rest", "publish", "publish"]),
        st.integers(0, 1 << 20),
    ),
    max_size=60,
)


@given(st.sampled_from([3, ALL_TOLD + 3]), STEPS)
@settings(deadline=None, max_examples=200)
def test_whoever_places_tasks_knows_all_and_the_others_who_is_there(
    nodes: int, steps: list[tuple[str, int]]
) -> None:
    world = World(nodes)
    number = nodes
    acts: dict[str, Callable[[bytes], None]] = {
        "change": world.change,
        "go": world.go,
        "link": world.link,
        "seek": world.seekers.add,
        "rest": world.seekers.discard,
    }
    for what, which in [*steps, ("publish", 0)]:
        if what == "come":
            world.come(node(number))
            number += 1
        elif what == "publish":
            world.publish()
            all_told = len(world.states) <= ALL_TOLD
            for name, (_, picture) in world.pictures.items():
                assert picture.keys() == world.states.keys()
                if all_told or name in world.seekers:
                    assert picture == world.states
        elif world.states:
            acts[what](list(world.states)[which % len(world.states)])


def test_what_has_not_changed_is_not_said_again() -> None:
    world = World(10)
    assert size(told(world.publish(), node(1))) == 10
    world.change(node(7))
    (edition,) = world.publish()
    assert (edition.nodes, edition.gone) == ([node(7)], [])
    assert len(edition.readers) == 10
    (empty,) = world.publish()
    assert size(empty) == 0


def test_a_reader_whose_link_begins_anew_gets_everything_and_the_others_do_not() -> None:
    world = World(10)
    world.publish()
    world.link(node(3))
    world.change(node(7))
    editions = world.publish()
    assert size(told(editions, node(3))) == 10
    assert size(told(editions, node(4))) == 1


def test_in_a_large_cluster_loads_are_for_those_that_place_tasks() -> None:
    world = World(ALL_TOLD + 9)
    world.publish()
    world.seekers.add(node(1))
    for number in range(50):
        world.change(node(number))
    editions = world.publish()
    assert size(told(editions, node(1))) == 50
    assert told(editions, node(2)) is None
    world.go(node(9))
    editions = world.publish()
    quiet = told(editions, node(2))
    assert quiet is not None
    assert (quiet.nodes, quiet.gone, quiet.loads) == ([], [node(9)], False)
    # Who begins to place tasks is told what it has not been told of before.
    world.seekers.add(node(2))
    assert size(told(world.publish(), node(2))) == 50  # of which one has gone


def test_all_hear_once_a_second_that_the_head_is_there() -> None:
    world = World(ALL_TOLD + 1)
    world.publish()
    world.publish(REPEAT_MS - 1)
    assert told(world.publish(REPEAT_MS), node(2)) is not None


def test_who_missed_more_deaths_than_are_remembered_is_told_everything() -> None:
    world = World(ALL_TOLD + 2)
    world.publish()
    for number in range(MAX_GONE + 1):
        world.come(node(10_000 + number))
        world.go(node(10_000 + number))
    edition = told(world.publish(), node(1))
    assert edition is not None
    assert edition.since == 0
    assert edition.loads


def test_the_more_nodes_the_fewer_numbers() -> None:
    assert least_ms(3) == least_ms(1_000) == LEAST_MS
    assert least_ms(10_000) == 1_000
