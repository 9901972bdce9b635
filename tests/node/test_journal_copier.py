import asyncio
import json
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from ray import _kernel
from ray.control_store.client import ControlStore
from ray.errors import RaySystemError
from ray.node import journal_copier
from ray.session import jobs
from tests.control_store.running import RunningServer
from tests.node.running import RECORD, Copying, new_arena

Found = TypeVar("Found")
ROOT = bytes(range(16)) + bytes(4)


@pytest.fixture
def redis_server() -> Iterator[RunningServer]:
    server = RunningServer()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copier can only be stopped between two waits for the journal."""
    monkeypatch.setattr(journal_copier, "WAIT_MS", 50)


@pytest.fixture
def arena() -> _kernel.Arena:
    arena = new_arena()
    arena.register(_kernel.DRIVER, ROOT)
    return arena


@pytest.fixture
def store(redis_server: RunningServer) -> Iterator[ControlStore]:
    store = ControlStore([redis_server.address], redis_server.password)
    yield store
    store.close()


async def eventually(look: Callable[[], Found], timeout_s: float = 5.0) -> Found:
    """What `look` returns once it is true; a server that is away just now is no answer."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            found = await asyncio.to_thread(look)
        except RaySystemError:
            found = None
        if found:
            return found
        assert asyncio.get_running_loop().time() < deadline, "did not come true in time"
        await asyncio.sleep(0.01)


def error(arena: _kernel.Arena, text: str) -> int:
    return arena.journal(_kernel.JOURNAL_ERROR, text.encode())


def texts(store: ControlStore, job: int = 1) -> list[str]:
    return [record.data.decode() for record in store.errors(job)]


def test_every_kind_of_entry_finds_its_key(
    arena: _kernel.Arena, redis_server: RunningServer, store: ControlStore
) -> None:
    jobs.write_start(arena, ROOT)
    long_text = "x" * 1000
    sequence = error(arena, long_text)
    arena.journal(_kernel.JOURNAL_FUNCTION, json.dumps({"id": "ab", "name": "f"}).encode())

    async def run() -> None:
        async with Copying(arena, [redis_server.address], redis_server.password):
            await eventually(lambda: store.functions())

    asyncio.run(run())
    assert arena.job == 1
    assert [(record.sequence, record.job, record.data) for record in store.errors(1)] == [
        (sequence, 1, long_text.encode())
    ]
    assert store.functions() == [{"job": 1, "id": "ab", "name": "f"}]
    (record,) = store.jobs().values()
    assert (record["pid"], record["root_id"]) == (os.getpid(), ROOT.hex())
    assert store.session() == RECORD
    assert store.place() == sequence + 1


def test_a_new_copier_goes_on_where_the_last_one_was(
    arena: _kernel.Arena, redis_server: RunningServer, store: ControlStore
) -> None:
    async def run(count: int) -> None:
        async with Copying(arena, [redis_server.address], redis_server.password):
            await eventually(lambda: len(texts(store)) == count)

    for count in range(1, 6):
        error(arena, f"error {count}")
        asyncio.run(run(count))
    assert texts(store) == [f"error {number}" for number in range(1, 6)]


def test_a_server_that_comes_back_empty_is_filled_again(
    arena: _kernel.Arena, redis_server: RunningServer, store: ControlStore
) -> None:
    async def run() -> None:
        async with Copying(arena, [redis_server.address], redis_server.password):
            error(arena, "before")
            await eventually(lambda: texts(store) == ["before"])
            redis_server.stop()
            error(arena, "meanwhile")
            redis_server.start()
            await eventually(lambda: texts(store) == ["before", "meanwhile"])
            assert store.session() == RECORD
            # Between two writes, so that only the place tells of the restart.
            redis_server.stop()
            redis_server.start()
            error(arena, "after")
            await eventually(lambda: texts(store) == ["before", "meanwhile", "after"])

    asyncio.run(run())


def test_lists_are_cut_to_their_length(
    arena: _kernel.Arena, redis_server: RunningServer, store: ControlStore
) -> None:
    for number in range(50):
        error(arena, str(number))

    async def run() -> None:
        async with Copying(arena, [redis_server.address], redis_server.password, kept=10):
            await eventually(lambda: texts(store)[-1:] == ["49"])

    asyncio.run(run())
    assert texts(store) == [str(number) for number in range(40, 50)]


def test_an_end_is_noted_at_its_own_job_only(
    arena: _kernel.Arena, redis_server: RunningServer, store: ControlStore
) -> None:
    jobs.write_start(arena, ROOT)

    async def run() -> None:
        async with Copying(arena, [redis_server.address], redis_server.password):
            await eventually(lambda: store.jobs())
            jobs.write_end(arena, 1)  # somebody else's process
            jobs.write_end(arena)
            await eventually(lambda: "end_time_s" in store.jobs()[1])

    asyncio.run(run())
    (record,) = store.jobs().values()
    assert record["end_time_s"] >= record["start_time_s"]


def test_with_shards_each_server_has_its_own_place(arena: _kernel.Arena) -> None:
    servers = [RunningServer() for _ in range(3)]
    for server in servers:
        server.password = servers[0].password
        server.stop()
        server.start()
    addresses = [server.address for server in servers]
    store = ControlStore(addresses, servers[0].password)

    async def run() -> None:
        async with Copying(arena, addresses, servers[0].password):
            error(arena, "first")
            await eventually(lambda: texts(store) == ["first"])
            # The shard that holds the errors of job 1 loses them; the primary loses nothing.
            servers[2].stop()
            servers[2].start()
            arena.journal(_kernel.JOURNAL_FUNCTION, b"{}")
            await eventually(lambda: texts(store) == ["first"])
            await eventually(lambda: len(store.functions()) == 1)

    try:
        asyncio.run(run())
    finally:
        store.close()
        for server in servers:
            server.stop()


def test_it_ends_with_the_arena(arena: _kernel.Arena, redis_server: RunningServer) -> None:
    async def run() -> None:
        copying = Copying(arena, [redis_server.address], redis_server.password)
        async with copying:
            arena.shut()
            await asyncio.wait_for(copying._task, 2.0)

    asyncio.run(run())
