"""The bell of a node manager's loop: armed while the loop sleeps, and who is awake need not be rung."""

import asyncio
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from ray.node.cluster.bell import PAUSE_S, Bell, Lookout
from tests.core.nodes import RAW, Network, Node, encoded

PATIENCE_S = 10.0
SILENCE_S = 0.1


@pytest.fixture
def node() -> Node:
    network = Network(2)
    one, other = network.all
    one.peer(other)  # who has no peers has no news
    return one


@pytest.fixture
def lookout(node: Node) -> Iterator[Lookout]:
    lookout = Lookout(node.manager)
    yield lookout
    lookout.close()


class World:
    """A lookout that waits for a bell and for a socket."""

    def __init__(self, lookout: Lookout) -> None:
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.here, self.there = socket.socketpair()
        self.lookout = lookout
        self.lookout.register(self.bell, selectors.EVENT_READ)
        self.lookout.register(self.here, selectors.EVENT_READ)
        self.lookout.begin(self.bell)

    def close(self) -> None:
        self.lookout.end()
        os.close(self.bell)
        self.here.close()
        self.there.close()

    def hears(self, timeout_s: float = PATIENCE_S) -> list[str]:
        """What the loop would hear, and deal with."""
        until_s, left_s, fds = time.monotonic() + timeout_s, timeout_s, set[int]()
        while not fds and left_s >= 0:
            fds = {key.fd for key, _ in self.lookout.select(left_s)}  # which may be slept for in slices
            left_s = until_s - time.monotonic()
        if self.bell in fds:
            self.lookout.heard()
        if self.here.fileno() in fds:
            self.here.recv(100)
        names = {self.bell: "bell", self.here.fileno(): "socket"}
        return sorted(names[fd] for fd in fds)


@pytest.fixture
def world(lookout: Lookout) -> Iterator[World]:
    world = World(lookout)
    yield world
    world.close()


def make_news(node: Node) -> None:
    """A task that no idle worker takes at once."""
    node.submit(node.driver.put(encoded(1), RAW), 1)


def test_news_are_heard_once_for_each_time_that_it_is_armed(node: Node, world: World) -> None:
    make_news(node)
    assert world.hears(SILENCE_S) == []
    world.lookout.arm()
    assert world.hears() == ["bell"]
    assert world.hears(SILENCE_S) == []
    assert node.manager.news(10, 0)
    world.lookout.arm()
    assert world.hears(SILENCE_S) == []  # all has been heard
    make_news(node)
    assert world.hears() == ["bell"]


def test_what_comes_while_something_else_is_dealt_with_is_heard_after_it(node: Node, world: World) -> None:
    world.lookout.arm()
    world.there.send(b"x")
    assert world.hears() == ["socket"]
    make_news(node)
    assert world.hears() == ["bell"]


def test_a_bell_that_has_rung_is_not_armed_again_by_what_comes_with_it(node: Node, world: World) -> None:
    world.lookout.arm()
    assert world.hears(0) == []
    make_news(node)
    world.there.send(b"x")
    assert world.hears() == ["bell", "socket"]
    assert world.hears(SILENCE_S) == []  # what it has told of is not dealt with yet


def test_it_goes_on_to_hear_what_it_was_armed_for(node: Node, world: World) -> None:
    world.lookout.arm(hears_queue=False)
    make_news(node)
    world.there.send(b"x")
    assert world.hears() == ["socket"]
    assert world.hears(SILENCE_S) == []
    world.lookout.arm(hears_queue=True)
    assert world.hears() == ["bell"]


def on_loop(
    node: Node, lookout: Lookout, test: Callable[[Bell, list[str]], None], turns: int = 3
) -> list[str]:
    """A bell on a loop, what the test does with it, and what it has rung by then."""
    rung: list[str] = []

    def on_ring() -> None:
        rung.append("news" if node.manager.news(10, 0) else "nothing")
        bell.arm(False, 0.0)

    async def main() -> None:
        bell.open()
        test(bell, rung)
        for _ in range(turns):
            await asyncio.sleep(SILENCE_S / turns)
        bell.close()

    bell = Bell(node.manager, on_ring, lookout)
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(lookout)) as runner:
        runner.run(main())
    return rung


def test_what_has_become_news_while_something_else_was_dealt_with_is_told_of_at_once(
    node: Node, lookout: Lookout
) -> None:
    def test(bell: Bell, rung: list[str]) -> None:
        bell.look()
        assert rung == []
        make_news(node)
        bell.look()
        assert rung == ["news"]
        make_news(node)
        bell.look()
        assert rung == ["news"]  # the next turn of the loop is soon enough

    assert on_loop(node, lookout, test) == ["news", "news"]  # and no third time


def test_a_bell_that_pauses_looks_at_nothing(node: Node, lookout: Lookout) -> None:
    def test(bell: Bell, rung: list[str]) -> None:
        bell.arm(True, 0.0)
        make_news(node)
        bell.look()
        assert rung == []

    assert PAUSE_S < SILENCE_S
    assert on_loop(node, lookout, test) == ["news"]


def test_a_bell_that_is_closed_tells_nothing(node: Node, lookout: Lookout) -> None:
    bells: list[Bell] = []
    rung = on_loop(node, lookout, lambda bell, _: bells.append(bell))
    make_news(node)
    bells[0].look()
    assert rung == []
