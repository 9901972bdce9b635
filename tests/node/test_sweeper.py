import asyncio
import os
import signal
import time
from collections.abc import Callable

import pytest

from ray import _kernel
from ray.node.sweeper import Sweeper
from ray.session import end
from tests.node.running import new_arena

ROOT = bytes(range(16)) + bytes(4)


@pytest.fixture
def arena() -> _kernel.Arena:
    arena = new_arena()
    arena.register(_kernel.NODE_MANAGER)
    return arena


class Member:
    """A process that has joined the arena and waits."""

    def __init__(self, arena: _kernel.Arena, kind: int) -> None:
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                arena.register(kind, ROOT if kind == _kernel.DRIVER else None)
                os.write(write, b"x")
                time.sleep(60)
            finally:
                os._exit(0)
        os.close(write)
        assert os.read(read, 1) == b"x"
        os.close(read)

    def kill(self, reap: bool = True) -> None:
        os.kill(self.pid, signal.SIGKILL)
        if reap:
            self.reap()

    def reap(self) -> None:
        os.waitpid(self.pid, 0)


def known(arena: _kernel.Arena) -> set[int]:
    return {pid for pid, *_ in arena.processes()} - {os.getpid()}


async def eventually(holds: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "did not come true in time"
        await asyncio.sleep(0.005)


def test_the_living_are_left_alone(arena: _kernel.Arena) -> None:
    members = [Member(arena, _kernel.WORKER), Member(arena, _kernel.DRIVER)]

    async def sweep() -> None:
        sweeper = Sweeper(arena, 1000)
        sweeping = asyncio.create_task(sweeper.run())
        await asyncio.sleep(0)
        for _ in range(3):
            sweeper.sweep()
        assert known(arena) == {member.pid for member in members}
        assert sweeper.kinds[members[0].pid] == _kernel.WORKER
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)

    asyncio.run(sweep())
    for member in members:
        member.kill()


def test_a_dead_driver_is_buried_at_once_and_its_end_noted(arena: _kernel.Arena) -> None:
    driver = Member(arena, _kernel.DRIVER)

    async def run() -> None:
        sweeper = Sweeper(arena, 60_000)  # so that only its pidfd can tell
        sweeping = asyncio.create_task(sweeper.run())
        await eventually(lambda: bool(sweeper.kinds), 2.0)
        driver.kill(reap=False)
        await eventually(lambda: not known(arena), 2.0)
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)

    asyncio.run(run())
    driver.reap()
    _, entries = arena.journal_read(0)
    assert any(kind == _kernel.JOURNAL_JOB and b"ended" in data for _, kind, _, _, data in entries)


def test_a_dead_worker_is_left_to_its_template_for_one_sweep(arena: _kernel.Arena) -> None:
    worker = Member(arena, _kernel.WORKER)
    worker.kill()
    sweeper = Sweeper(arena, 1000)
    sweeper.sweep()
    assert known(arena) == {worker.pid}
    sweeper.sweep()
    assert known(arena) == set()


def test_a_zombie_counts_as_dead(arena: _kernel.Arena) -> None:
    worker = Member(arena, _kernel.WORKER)
    worker.kill(reap=False)
    end.wait_for_deaths({worker.pid}, 2.0)
    sweeper = Sweeper(arena, 1000)
    for _ in range(2):
        sweeper.sweep()
    assert known(arena) == set()
    worker.reap()


def test_it_ends_with_the_arena(arena: _kernel.Arena) -> None:
    async def run() -> None:
        sweeping = asyncio.create_task(Sweeper(arena, 10).run())
        await asyncio.sleep(0)
        arena.shut()
        await asyncio.wait_for(sweeping, 2.0)

    asyncio.run(run())
