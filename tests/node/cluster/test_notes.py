"""What is told to drivers of other nodes: two arenas in this process, and a link that breaks when told to."""

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray import _kernel
from ray.node.cluster import notes
from ray.node.cluster.notes import Hearing, Telling, node_name
from ray.policy.cluster.notes import BACKLOG_BYTES, FAILURES_WAITING, KEPT_BYTES, WINDOW_BYTES
from ray.wire.messages import JobNote, JobNoted, Message
from tests.core.nodes import Network, Node

TASK_ERROR = 100


class Pair:
    """`here` runs tasks of a driver at `home`."""

    def __init__(self, folder: Path) -> None:
        hand = Network(0)
        self.here, self.home = Node(hand), Node(hand)
        self.logs = {"here": str(folder / "here"), "home": str(folder / "home")}
        for place in self.logs.values():
            os.mkdir(place, 0o700)
        number = self.here.peer(self.home)
        self.job = self.here.manager.enter_guest(number, self.home.root_id)
        [(self.home_job, _)] = self.home.manager.drivers()
        self.is_up = True
        self.under_way: deque[Message] = deque()
        self.telling = Telling(self.here.manager, self.logs["here"], self.send)
        self.hear_anew()
        self.follow()

    def follow(self) -> None:
        self.telling.follow({(self.home.node_id, self.home.root_id): self.job})

    def hear_anew(self) -> None:
        """Another node manager at home."""
        self.hearing = Hearing(self.home.manager, self.logs["home"], self.send, lambda node: "there")

    def tell_anew(self) -> None:
        """Another node manager here."""
        self.telling.close()
        self.telling = Telling(self.here.manager, self.logs["here"], self.send)
        self.follow()

    def send(self, node: bytes, message: Message) -> bool:
        if self.is_up:
            self.under_way.append(message)
        return self.is_up

    def break_link(self) -> None:
        """What is under way is lost."""
        self.under_way.clear()
        self.is_up = True
        self.telling.on_link_up(self.home.node_id)

    def deliver(self, most: int = 1_000_000) -> None:
        while self.under_way and most:
            most -= 1
            message = self.under_way.popleft()
            if isinstance(message, JobNote):
                self.hearing.on_note(self.here.node_id, message)
            elif isinstance(message, JobNoted):
                self.telling.on_noted(self.home.node_id, message)

    def settle(self, now_ms: int = 0) -> None:
        self.telling.look(now_ms, at_once=True)
        while self.under_way:
            self.deliver()
            self.hearing.tick(1 << 60)  # whatever its pace is
            self.telling.look(now_ms, at_once=True)

    def prints(self, text: str, stream: str = "out") -> None:
        with open(os.path.join(self.logs["here"], f"job-{self.job}.{stream}"), "a", encoding="utf-8") as file:
            file.write(text)

    def printed(self, stream: str = "out") -> str:
        path = Path(self.logs["home"], f"job-{self.home_job}.{stream}")
        return path.read_text() if path.exists() else ""

    def fails(self, text: str) -> None:
        self.here.manager.journal(_kernel.JOURNAL_ERROR, text.encode(), self.job, TASK_ERROR)

    def failed(self) -> list[str]:
        found, place = [], 0
        while True:
            place, entries = self.home.manager.journal_read(place)
            if not entries:
                return found
            for _, kind, job, fmt, data in entries:
                assert (kind, job, fmt) == (_kernel.JOURNAL_ERROR, self.home_job, TASK_ERROR)
                found.append(data.decode())


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.fixture(autouse=True)
def no_file_but_the_output_is_left(pair: Pair) -> Iterator[None]:
    yield
    pair.telling.follow({})
    assert not [name for name in os.listdir(pair.logs["here"]) if name.endswith(".told")]


def test_each_line_has_the_nodes_name(pair: Pair) -> None:
    pair.prints("one\ntwo\n\nno end")
    pair.prints("aside\n", "err")
    pair.settle()
    assert pair.printed() == "(there) one\n(there) two\n(there) \n(there) no end\n"
    assert pair.printed("err") == "(there) aside\n"


def test_what_was_lost_with_a_link_comes_again_and_nothing_twice(pair: Pair) -> None:
    lines = [f"line {number}\n" for number in range(100)]
    for number, line in enumerate(lines):
        pair.prints(line)
        pair.fails(line)
        pair.telling.look(0)
        if number % 7 == 3:
            pair.deliver(most=3)
        if number % 10 == 9:
            pair.break_link()
    pair.settle()
    assert pair.printed() == "".join("(there) " + line for line in lines)
    assert pair.failed() == lines


def test_another_node_manager_goes_on_where_the_last_one_was(pair: Pair) -> None:
    for turn in range(6):
        pair.prints(f"line {turn}\n")
        pair.fails(f"failure {turn}")
        if turn % 2:
            pair.settle()
        else:
            pair.telling.look(0)
        pair.break_link()
        pair.tell_anew()
        if turn % 3 == 2:
            pair.hear_anew()
    pair.settle()
    assert pair.printed() == "".join(f"(there) line {turn}\n" for turn in range(6))
    assert pair.failed() == [f"failure {turn}" for turn in range(6)]


def test_without_a_link_the_end_of_too_much_is_kept(pair: Pair) -> None:
    line = "x" * 99 + "\n"
    pair.is_up = False
    pair.prints(line * ((BACKLOG_BYTES + WINDOW_BYTES) // 100))
    pair.telling.look(0)
    pair.break_link()
    pair.settle()
    first, *rest = pair.printed().splitlines()
    assert "bytes are left out here" in first
    left_out = int(first.split()[1].replace(",", ""))
    assert rest == ["(there) " + line.rstrip()] * len(rest)
    assert left_out + 100 * len(rest) == (BACKLOG_BYTES + WINDOW_BYTES) // 100 * 100
    assert KEPT_BYTES - 100 <= 100 * len(rest) <= KEPT_BYTES


def test_no_more_is_under_way_than_the_window(pair: Pair) -> None:
    pair.prints(("y" * 99 + "\n") * (2 * WINDOW_BYTES // 100))
    pair.telling.look(0)
    assert sum(len(note.data) for note in pair.under_way if isinstance(note, JobNote)) <= WINDOW_BYTES
    pair.settle()
    assert len(pair.printed().splitlines()) == 2 * WINDOW_BYTES // 100


def test_failures_without_end_are_counted_and_said(pair: Pair) -> None:
    pair.is_up = False
    for number in range(FAILURES_WAITING + 5):
        pair.fails(str(number))
    pair.telling.look(0)
    pair.break_link()
    pair.settle()
    assert pair.failed() == [str(number) for number in range(FAILURES_WAITING)]
    assert pair.printed("err") == "(there) 5 failures more are left out: there were too many at once.\n"


def test_what_comes_for_a_driver_that_has_ended_is_dropped(pair: Pair) -> None:
    note = JobNote(b"r" * 20, 1, 0, 5, notes.TEXT, b"late\n")
    pair.hearing.on_note(pair.here.node_id, note)
    assert pair.printed() == ""
    assert not pair.under_way


def test_the_names_of_nodes() -> None:
    addresses = {b"a": "10.0.0.1:6379", b"b": "10.0.0.2:41000", b"c": "10.0.0.2:41001", b"d": "[fe80::1]:9"}
    assert node_name(b"a", addresses) == "10.0.0.1"
    assert node_name(b"b", addresses) == "10.0.0.2:41000"
    assert node_name(b"d", addresses) == "[fe80::1]"
    assert node_name(b"unknown", addresses) == b"unknown".hex()[:8]
