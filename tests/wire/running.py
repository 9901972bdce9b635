"""A listener and links for tests, and waits with a deadline."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from ray.wire.identity import LINK, Identity
from ray.wire.link import End, Link, LinkHost
from ray.wire.listener import Listener
from ray.wire.messages import PROTOCOL, Hello, Message, Resources
from ray.wire.token import ClusterToken

PATIENCE_S = 20.0
FULL = os.environ.get("RAY_CHAOS") == "full"
TOKEN = ClusterToken(bytes(range(32)))
IDENTITY = Identity.of(TOKEN)


def times(full: int, short: int) -> int:
    """How often an attack strikes: `make chaos` runs the full forms, `make test` the short ones."""
    return full if FULL else short


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs it; fails when a callback raised, or a task is left."""
    asyncio.run(_watched(main))


async def _watched(main: Coroutine[Any, Any, None]) -> None:
    raised: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    await main
    async with asyncio.timeout(PATIENCE_S):
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
    assert raised == []


def hello(node: int = 1, protocol: int = PROTOCOL, release: str = "0.2.0") -> Hello:
    return Hello(
        protocol, release, bytes([node]) * 20, b"cluster", "127.0.0.1:1", False, Resources(cpu=20_000)
    )


class Heard:
    """What came over a link, and how it ended."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.messages: list[Message] = []
        self.batches = 0
        self.end: End | None = None
        self._changed = asyncio.Event()
        link.begin(self._on_messages, self._on_closed)

    def _on_messages(self, link: Link, messages: list[Message]) -> None:
        assert link is self.link
        self.messages += messages
        self.batches += 1
        self._changed.set()

    def _on_closed(self, link: Link, end: End) -> None:
        assert link is self.link
        assert self.end is None
        self.end = end
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def count(self, number: int) -> list[Message]:
        await self.until(lambda: len(self.messages) >= number)
        return self.messages

    async def ended(self) -> End:
        await self.until(lambda: self.end is not None)
        assert self.end is not None
        return self.end


class Node:
    """A listener that takes links."""

    def __init__(self, identity: Identity = IDENTITY, said: Hello | None = None) -> None:
        self.links: asyncio.Queue[Heard] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()
        self.said = said or hello(2)
        self.host = LinkHost(
            lambda: self.said, lambda link: self.links.put_nowait(Heard(link)), self._refused
        )
        self.listener = Listener(identity, {LINK: self.host.accept})
        self.all: list[Heard] = []

    def _refused(self, address: str, error: Exception) -> None:
        self.errors.put_nowait(error)

    async def link(self) -> Heard:
        """The next link that comes in."""
        async with asyncio.timeout(PATIENCE_S):
            heard = await self.links.get()
        self.all.append(heard)
        return heard

    async def until(self, condition: Callable[[], bool]) -> None:
        """For what the listener counts, which tells nobody."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.001)


@asynccontextmanager
async def node(identity: Identity = IDENTITY, said: Hello | None = None) -> AsyncIterator[Node]:
    made = Node(identity, said)
    await made.listener.start("127.0.0.1", 0)
    try:
        yield made
    finally:
        made.listener.close()
        await made.host.close()
        while not made.links.empty():
            made.all.append(made.links.get_nowait())
        for heard in made.all:
            heard.link.abort("the test is over")


def plain(address: str) -> socket.socket:
    """A TCP connection without TLS, blocking."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), PATIENCE_S)


def free_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
