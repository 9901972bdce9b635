"""The monitor over a real arena: workers are forked processes that take real tasks."""

import json
import mmap
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from ray import _kernel
from ray.config import Config
from ray.node.memory_holders import Holders, private_bytes, store_bytes
from ray.node.memory_limits import MemoryLimits
from ray.node.memory_monitor import MemoryMonitor
from ray.node.process_tree import ProcessTree, now_ms
from ray.policy.memory import LATEST_MS, PATIENCE_PAUSES, Allowance, Pause, Rank
from ray.serialization.failures import decode_failure
from ray.serialization.formats import OUT_OF_MEMORY, RAW
from ray.serialization.functions import pickle_function
from ray.serialization.shortages import Stopped
from tests.api.programs import wait_for
from tests.node.running import new_arena

MIB = 1 << 20
PAUSE_MS = 30
HELD = 40 * MIB


class Node:
    """An arena with this process as its driver and node manager, and workers that hold memory."""

    def __init__(self) -> None:
        self.arena = new_arena()
        self.arena.register(_kernel.NODE_MANAGER)
        self.arena.make_current()
        self.function = self.arena.put(pickle_function(short), RAW)
        self.shape = self.arena.shape(0, 0, 0)
        self.template = self._template()
        self.pids = {self.template}
        self.used = 0  # what the limit is told
        self.config = Config.with_overrides({"memory_retry_limit": 1, "memory_pause_ms": PAUSE_MS})
        self.monitor = MemoryMonitor(self.arena, self.config, os.getpid(), self.limits())

    def _template(self) -> int:
        """Holds what every worker is born with: they are all forked from this process."""
        pid = os.fork()
        if pid == 0:
            try:
                self.arena.register(_kernel.TEMPLATE)
                signal.pause()
            finally:
                os._exit(0)
        assert wait_for(lambda: len(self.arena.processes()) == 2 or None, 5.0)
        return pid

    def limits(self) -> MemoryLimits:
        node = self

        class Told(MemoryLimits):
            def look(self, now_ms: int) -> list[Allowance]:
                return [Allowance("this machine", node.used, 100 * MIB, 95 * MIB)]

        return Told(0.95)

    def submit(self, max_retries: int) -> _kernel.ObjectID:
        made = self.arena.submit(self.function, b"", None, None, 1, self.shape, max_retries)
        assert isinstance(made, _kernel.ObjectID)
        return made

    def worker(self, act: Callable[[], None] = signal.pause, held: int = HELD) -> int:
        """Takes a task, holds so much, and then does this; the one before has its task already."""
        before = self.arena.stats()["running_tasks"]
        pid = os.fork()
        if pid == 0:
            try:
                self.arena.register(_kernel.WORKER)
                self.arena.next()
                # Not from the allocator: it may have as much that is resident and free.
                memory = mmap.mmap(-1, held, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
                for offset in range(0, held, mmap.PAGESIZE):
                    memory[offset] = 1
                act()
                assert memory[0]
                self.arena.next(b"done", RAW)
            finally:
                os._exit(0)
        self.pids.add(pid)
        assert wait_for(lambda: self.arena.stats()["running_tasks"] > before or None, 5.0)
        born_with = private_bytes(self.template)
        # What is small may lie where there was room before.
        assert wait_for(lambda: private_bytes(pid) - born_with >= held - 4 * MIB or None, 5.0)
        return pid

    def bury(self, pid: int) -> int:
        """Waits for its end, as its template would; the status."""
        _, status = os.waitpid(pid, 0)
        self.pids.discard(pid)
        self.arena.bury(pid, os.waitstatus_to_exitcode(status))
        return os.waitstatus_to_exitcode(status)

    def alive(self, pid: int) -> bool:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def end(self) -> None:
        for pid in list(self.pids):
            os.kill(pid, signal.SIGKILL)
            self.bury(pid)
        assert self.arena.check() == []
        self.arena.leave()


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    made.end()


def short(node: Node) -> None:
    """One look while memory is short."""
    node.used = 96 * MIB
    node.monitor.look()
    node.used = 10 * MIB


def test_nothing_happens_while_there_is_room(node: Node) -> None:
    task = node.submit(3)
    pid = node.worker()
    node.used = 94 * MIB
    node.monitor.look()
    assert node.alive(pid)
    assert not node.arena.is_ready(task)


def test_the_newest_is_stopped_rests_and_runs_again(node: Node, capfd: pytest.CaptureFixture[str]) -> None:
    node.submit(3)
    older = node.worker()
    again = node.submit(3)
    newer = node.worker()
    short(node)
    assert node.bury(newer) == -signal.SIGKILL
    assert node.alive(older)
    said = capfd.readouterr().err
    assert f"process {newer} was stopped" in said
    assert "'short' in process" in said
    assert "this machine has 96.0 MiB of 100.0 MiB" in said
    assert node.arena.resting == 1
    stopped = node.monitor.pause
    node.monitor.pause = replace(stopped, length_ms=1_000_000)
    node.monitor.look()
    assert node.arena.resting == 1, "the pause is not over"
    node.monitor.pause = stopped
    assert wait_for(lambda: (node.monitor.look(), node.arena.resting)[1] == 0 or None, 5.0)
    node.worker(act=lambda: None)
    assert node.arena.get(again, 5_000) == (RAW, b"done")


def test_it_rests_while_memory_is_short(node: Node) -> None:
    node.submit(3)
    pid = node.worker()
    short(node)
    node.bury(pid)
    node.used = 96 * MIB
    length_ms = 1_000_000
    node.monitor.pause = Pause(now_ms() - length_ms, length_ms)
    node.monitor.look()
    assert node.arena.resting == 1, "the pause is over, but memory is short"
    node.monitor.pause = Pause(now_ms() - PATIENCE_PAUSES * length_ms, length_ms)
    node.monitor.look()
    assert node.arena.resting == 0, "it rests for ever"


def test_retries_come_to_an_end_and_the_error_says_why(node: Node) -> None:
    task = node.submit(3)
    for _ in range(2):
        pid = node.worker()
        short(node)
        node.bury(pid)
        if node.arena.resting:
            assert wait_for(lambda: (node.monitor.look(), node.arena.resting)[1] == 0 or None, 5.0)
    fmt, data = node.arena.get(task, 5_000)
    assert fmt == OUT_OF_MEMORY
    stopped = Stopped.decode(data)
    assert stopped is not None
    assert (stopped.pid, stopped.is_actor) == (pid, False)
    why = stopped.shortage
    assert (why.what, why.used_bytes, why.limit_bytes) == ("this machine", 96 * MIB, 100 * MIB)
    assert (why.stops, why.setting) == (2, "memory_fraction")
    assert abs(why.held_bytes - HELD) < 20 * MIB
    assert isinstance(decode_failure(fmt, data), MemoryError)
    _, entries = node.arena.journal_read(0)
    errors = [json.loads(bytes(data)) for _, kind, _, fmt, data in entries if kind == _kernel.JOURNAL_ERROR]
    assert [error["pid"] for error in errors] == [pid]


def test_stops_do_not_use_up_the_retries_for_crashes(node: Node) -> None:
    task = node.submit(1)
    pid = node.worker()
    short(node)
    node.bury(pid)
    assert wait_for(lambda: (node.monitor.look(), node.arena.resting)[1] == 0 or None, 5.0)
    pid = node.worker()
    os.kill(pid, signal.SIGKILL)
    node.bury(pid)
    node.worker(act=lambda: None)
    assert node.arena.get(task, 5_000) == (RAW, b"done")


def test_what_must_not_run_twice_fails(node: Node) -> None:
    task = node.submit(0)
    pid = node.worker()
    short(node)
    node.bury(pid)
    assert node.arena.get(task, 5_000)[0] == OUT_OF_MEMORY


def test_a_full_store_makes_the_error_shorter(node: Node) -> None:
    task = node.submit(0)
    pid = node.worker()
    kept = []
    for size in (1 << 20, 1 << 12, 1 << 8, 65):
        try:
            while True:
                kept.append(node.arena.put(bytes(size), RAW))
        except _kernel.StoreFull:
            continue
    short(node)
    node.bury(pid)
    fmt, data = node.arena.get(task, 5_000)
    assert fmt == _kernel.FORMAT_SYSTEM
    error = decode_failure(fmt, data, "f")
    assert isinstance(error, MemoryError)
    assert "memory ran out" in str(error)


def test_nobody_is_stopped_who_holds_next_to_nothing(node: Node, capfd: pytest.CaptureFixture[str]) -> None:
    node.submit(3)
    pid = node.worker(held=MIB)
    short(node)
    assert node.alive(pid)
    node.used = 96 * MIB
    node.monitor.look()
    assert capfd.readouterr().err.count("no task holds enough") == 1, "once for each shortage"


def test_the_next_is_stopped_only_when_the_memory_of_the_first_is_back(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.submit(3)
    node.submit(3)
    first, second = node.worker(), node.worker()
    waited = []
    original = ProcessTree.wait

    def noted(tree: ProcessTree, timeout_ms: int) -> None:
        original(tree, timeout_ms)
        waited.append((node.alive(first), node.alive(second)))

    monkeypatch.setattr(ProcessTree, "wait", noted)
    short(node)
    assert waited == [(True, False)]


def test_the_session_s_own_limit_counts_shared_memory_once(node: Node) -> None:
    node.submit(3)
    node.worker()
    node.submit(3)
    node.worker()
    before = store_bytes(node.arena)
    kept = node.arena.put(bytes(2 * MIB), RAW)
    assert kept is not None
    assert store_bytes(node.arena) - before >= 2 * MIB
    each = 2 * private_bytes(os.getpid()) + store_bytes(node.arena) + 2 * HELD
    assert abs(Holders(node.arena, os.getpid()).session_bytes() - each) < 30 * MIB


def test_what_workers_are(node: Node) -> None:
    node.submit(3)
    retriable = node.worker()
    node.submit(0)
    once = node.worker()
    found = {each.pid: each for each in Holders(node.arena, os.getpid()).workers()}
    assert (found[retriable].rank, found[once].rank) == (Rank.RETRIABLE, Rank.ONCE)
    assert found[retriable].since_ns < found[once].since_ns
    assert all(abs(each.held_bytes - HELD) < 20 * MIB for each in found.values())


def test_it_looks_seldom_while_there_is_much_room(node: Node) -> None:
    node.used = 0
    assert MemoryMonitor(node.arena, node.config, os.getpid(), MemoryLimits(0.0)).look() == LATEST_MS
    assert node.monitor.look() < LATEST_MS


def test_its_thread_ends_when_told(node: Node) -> None:
    thread = threading.Thread(target=node.monitor.run)
    thread.start()
    node.monitor.stop()
    thread.join(5)
    assert not thread.is_alive()
