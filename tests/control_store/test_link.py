import asyncio
import os
import signal
import time
from typing import Any

import pytest

from ray.control_store.link import UNREACHABLE, Link, Refused
from tests.control_store.running import RunningServer


def link_to(server: RunningServer) -> Link:
    return Link(server.address, server.password)


def test_replies_of_every_kind(redis_server: RunningServer) -> None:
    async def talk() -> list[Any]:
        link = link_to(redis_server)
        replies = [
            await link.ask("SET", "key", b"\0\r\n\xff" * 100_000),
            await link.ask("GET", "key"),
            await link.ask("GET", "no such key"),
            await link.ask("HSET", "hash", "one", 1, "two", b"2"),
            await link.ask("HGETALL", "hash"),
        ]
        await link.close()
        return replies

    assert asyncio.run(talk()) == [b"OK", b"\0\r\n\xff" * 100_000, None, 2, [b"one", b"1", b"two", b"2"]]


def test_all_or_nothing(redis_server: RunningServer) -> None:
    async def talk() -> tuple[Any, Any]:
        link = link_to(redis_server)
        await link.all_or_nothing([("SET", "a", 1), ("SET", "b", 2)])
        with pytest.raises(Refused, match="unknown command"):
            await link.all_or_nothing([("SET", "a", 3), ("NOSUCHCOMMAND", "b")])
        found = await link.ask("GET", "a"), await link.ask("GET", "b")
        await link.close()
        return found

    assert asyncio.run(talk()) == (b"1", b"2")


def test_a_wrong_password_is_refused(redis_server: RunningServer) -> None:
    with pytest.raises(Refused):
        asyncio.run(Link(redis_server.address, "ab").ask("GET", "key"))


def test_a_restarted_server_is_found_again(redis_server: RunningServer) -> None:
    async def talk() -> Any:
        link = link_to(redis_server)
        await link.ask("SET", "key", 1)
        redis_server.stop()
        for _ in range(2):
            with pytest.raises(UNREACHABLE):
                await link.ask("GET", "key")
        redis_server.start()
        found = await link.ask("GET", "key")
        await link.close()
        return found

    assert asyncio.run(talk()) is None, "nothing is on disk"


def test_a_server_that_does_not_answer(redis_server: RunningServer) -> None:
    async def talk() -> tuple[float, Any]:
        link = link_to(redis_server)
        await link.ask("SET", "key", 1)
        os.kill(redis_server.pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(UNREACHABLE):
            await link.ask("SET", "key", 2)
        took = time.monotonic() - began
        os.kill(redis_server.pid, signal.SIGCONT)
        found = await link.ask("PING")
        await link.close()
        return took, found

    took, found = asyncio.run(talk())
    assert took < 4
    assert found == b"PONG", "a late reply to what was asked before is nobody's"
