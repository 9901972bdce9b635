import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from ray import _kernel
from ray.node.lock_watch import LockWatch
from ray.session import processes
from tests.api.programs import wait_for
from tests.node.running import new_arena

PATIENCE_MS = 100
TRIES = 2_000  # a busy process is met inside a transaction every few tries


class Kinds:
    def __init__(self, kinds: dict[int, int]) -> None:
        self.kinds = kinds


class HeldForEver:
    """Stands for an arena whose mutex one process never gives back, though it runs."""

    def __init__(self, holder: int) -> None:
        self.holder = holder

    def lock_holder(self, timeout_ms: int) -> int:
        return self.holder


class Arena:
    """Stands for an arena with these holders of its mutex, one each time somebody looks."""

    def __init__(self, holders: list[int]) -> None:
        self.holders = holders

    def lock_holder(self, timeout_ms: int) -> int:
        return self.holders.pop(0)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def busy_process(arena: _kernel.Arena) -> int:
    """A process that is inside a transaction much of the time."""
    pid = os.fork()
    if pid == 0:
        try:
            arena.register(_kernel.WORKER)
            while True:
                arena.put(b"x", 0)
        finally:
            os._exit(0)
    return pid


def test_a_stopped_holder_is_continued() -> None:
    arena = new_arena()
    arena.register(_kernel.NODE_MANAGER)
    busy = busy_process(arena)
    try:
        assert wait_for(lambda: len(arena.processes()) == 2 or None, 5.0)
        for _ in range(TRIES):
            os.kill(busy, signal.SIGSTOP)
            if arena.lock_holder(5) == busy:
                break
            os.kill(busy, signal.SIGCONT)
            time.sleep(0.001)  # or it is stopped again where it was
        else:
            pytest.fail("the process was never met inside a transaction")
        LockWatch(arena, PATIENCE_MS, Kinds({busy: _kernel.WORKER})).look()
        assert arena.lock_holder(1_000) == 0
        found = processes.stat(busy)
        assert found is not None
        assert found[0] != "T"
    finally:
        os.kill(busy, signal.SIGKILL)
        os.waitpid(busy, 0)
    arena.bury(busy, -signal.SIGKILL)
    assert arena.check() == []


def test_a_worker_that_holds_on_is_killed_and_named(
    sleeper: subprocess.Popen[bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    watch = LockWatch(HeldForEver(sleeper.pid), PATIENCE_MS, Kinds({sleeper.pid: _kernel.WORKER}))  # type: ignore[arg-type]
    watch.look()
    assert sleeper.wait(2) == -signal.SIGKILL
    assert str(sleeper.pid) in capfd.readouterr().err


def test_who_went_on_is_not_killed_for_being_stopped_again(sleeper: subprocess.Popen[bytes]) -> None:
    arena = Arena([sleeper.pid, 0, sleeper.pid, 0])
    watch = LockWatch(arena, PATIENCE_MS, Kinds({sleeper.pid: _kernel.WORKER}))  # type: ignore[arg-type]
    watch.look()
    watch.look()
    assert arena.holders == []
    assert sleeper.poll() is None


def test_a_driver_that_holds_on_is_named_but_never_killed(
    sleeper: subprocess.Popen[bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    watch = LockWatch(HeldForEver(sleeper.pid), PATIENCE_MS, Kinds({sleeper.pid: _kernel.DRIVER}))  # type: ignore[arg-type]
    for _ in range(3):
        watch.look()
    assert sleeper.poll() is None
    assert str(sleeper.pid) in capfd.readouterr().err


def test_a_free_mutex_costs_nobody_anything() -> None:
    arena = new_arena()
    arena.register(_kernel.NODE_MANAGER)
    began = time.monotonic()
    LockWatch(arena, 5_000, Kinds({})).look()
    assert time.monotonic() - began < 1


def test_its_thread_ends_when_told() -> None:
    arena = new_arena()
    arena.register(_kernel.NODE_MANAGER)
    watch = LockWatch(arena, PATIENCE_MS, Kinds({}))
    watch.start()
    watch.stop()
    watch.join()


def test_a_driver_of_another_user_is_named_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It can't be continued, let alone killed."""

    def refuse(pid: int, signum: int) -> None:
        raise PermissionError(errno.EPERM, "not permitted")

    watch = LockWatch(HeldForEver(4_000_000), PATIENCE_MS, Kinds({4_000_000: _kernel.DRIVER}))  # type: ignore[arg-type]
    monkeypatch.setattr(os, "kill", refuse)
    for _ in range(3):
        watch.look()
    said = capsys.readouterr().err
    assert said.count("kill -CONT 4000000") == 1
