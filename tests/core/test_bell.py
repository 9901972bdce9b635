"""The kernel's bell: an eventfd that rings once for each time it is armed, when the arena has news."""

import os
import select
from collections.abc import Iterator

import pytest

from tests.core.nodes import RAW, Network, Node, encoded

PATIENCE_MS = 10_000
SILENCE_MS = 100


@pytest.fixture
def node() -> Node:
    network = Network(2)
    one, other = network.all
    one.peer(other)  # who has no peers has no news
    return one


@pytest.fixture
def bell(node: Node) -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    node.manager.listen(fd)
    yield fd
    node.manager.listen(None)
    os.close(fd)


def rings(fd: int, patience_ms: int = PATIENCE_MS) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(patience_ms):
        return False
    assert os.eventfd_read(fd) == 1
    return True


def make_news(node: Node) -> None:
    """A task that no idle worker takes at once."""
    function = node.driver.put(encoded(1), RAW)
    node.submit(function, 1)


def test_it_rings_once_each_time_it_is_armed(node: Node, bell: int) -> None:
    make_news(node)
    assert not rings(bell, SILENCE_MS)  # it was not armed
    node.manager.arm()
    assert rings(bell)  # for what was there
    assert not rings(bell, SILENCE_MS)
    assert node.manager.news(10, 0)
    node.manager.arm()
    assert not rings(bell, SILENCE_MS)  # all has been heard
    make_news(node)
    assert rings(bell)


def test_that_tasks_wait_is_news_only_to_who_asks(node: Node, bell: int) -> None:
    node.manager.arm(hears_queue=False)
    make_news(node)
    assert not rings(bell, SILENCE_MS)
    node.manager.arm()
    assert rings(bell)


def test_other_news_ring_also_while_the_queue_is_not_heard(node: Node, bell: int) -> None:
    make_news(node)
    node.manager.arm(hears_queue=False)
    assert not rings(bell, SILENCE_MS)
    node.manager.shut()
    assert rings(bell)


def test_it_rings_when_the_arena_is_shut(node: Node, bell: int) -> None:
    node.manager.news(10, 0)
    node.manager.arm()
    node.manager.shut()
    assert rings(bell)


def test_its_thread_ends(node: Node) -> None:
    before = len(os.listdir("/proc/self/task"))
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    try:
        node.manager.listen(fd)
        node.manager.arm()
        assert len(os.listdir("/proc/self/task")) == before + 1
        node.manager.listen(None)
        assert len(os.listdir("/proc/self/task")) == before
        node.manager.arm()  # nobody is there to ring
    finally:
        os.close(fd)
