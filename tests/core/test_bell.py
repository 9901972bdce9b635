"""The kernel's bell: an eventfd that rings once for each time it is armed, when the arena has news; and the
sleep that takes its place."""

import os
import select
import signal
import threading
import time
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


# --- a sleep for news and a descriptor at once ---


class Loop:
    """What an event loop has: an epoll, here of one end of a pipe."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.ends = os.pipe2(os.O_CLOEXEC)
        self.epoll = select.epoll()
        self.epoll.register(self.ends[0], select.EPOLLIN)
        node.manager.hear(self.epoll.fileno())

    def hears(self, hears_queue: bool = True, patience_ms: int = PATIENCE_MS) -> tuple[bool, bool]:
        """Of news, of the descriptor; neither when the patience is over."""
        until_s = time.monotonic() + patience_ms / 1000
        while (left_ms := int(1000 * (until_s - time.monotonic()))) > 0:
            heard = self.node.manager.sleep(left_ms, hears_queue)
            if any(heard):
                return heard
        return (False, False)

    def close(self) -> None:
        self.node.manager.hear(None)
        self.epoll.close()
        for end in self.ends:
            os.close(end)


@pytest.fixture
def loop(node: Node) -> Iterator[Loop]:
    loop = Loop(node)
    yield loop
    loop.close()


def test_a_sleep_for_both_ends_for_either(node: Node, loop: Loop) -> None:
    assert loop.hears(patience_ms=SILENCE_MS) == (False, False)
    make_news(node)
    assert loop.hears() == (True, False)
    assert loop.hears(hears_queue=False, patience_ms=SILENCE_MS) == (False, False)
    os.write(loop.ends[1], b"x")
    assert loop.hears(hears_queue=False) == (False, True)
    assert loop.hears()[0]  # both are still there; the descriptor may be looked at or not
    assert node.manager.news(10, 0)
    assert loop.hears() == (False, True)
    os.read(loop.ends[0], 1)
    assert loop.hears(patience_ms=SILENCE_MS) == (False, False)


@pytest.mark.parametrize("delay_s", [0.0, 0.001, 0.05])  # sooner and later than it stops looking and sleeps
def test_other_threads_run_meanwhile_and_end_it(node: Node, loop: Loop, delay_s: float) -> None:
    for _ in range(20):
        waker = threading.Timer(delay_s, os.write, (loop.ends[1], b"x"))
        waker.start()
        assert loop.hears() == (False, True)
        os.read(loop.ends[0], 1)
        waker.join()
        waker = threading.Timer(delay_s, make_news, (node,))
        waker.start()
        assert loop.hears() == (True, False)
        waker.join()
        assert node.manager.news(10, 0)


def test_a_signal_ends_it(node: Node, loop: Loop) -> None:
    signals: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: signals.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, SILENCE_MS / 1000)
        while not signals:
            assert node.manager.sleep(PATIENCE_MS, True) == (False, False)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert loop.hears(patience_ms=SILENCE_MS) == (False, False)


def test_it_ends_when_the_arena_is_shut(node: Node, loop: Loop) -> None:
    node.manager.shut()
    assert loop.hears() == (True, False)


def test_who_has_not_said_what_it_hears_does_not_sleep(node: Node) -> None:
    assert not node.manager.give_way()
    with pytest.raises(RuntimeError, match="what it hears"):
        node.manager.sleep(0, True)
