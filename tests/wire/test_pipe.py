"""The pipe to a server on this machine: bytes go both ways unchanged, and both sides end together."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ray.errors import PeerUnreachableError
from ray.wire.connecting import open_socket
from ray.wire.identity import LINK, REDIS
from ray.wire.listener import Listener
from ray.wire.pipe import PipeHost
from tests.wire.running import IDENTITY, PATIENCE_S, free_port, run


@asynccontextmanager
async def piped(to: int) -> AsyncIterator[tuple[str, PipeHost]]:
    """A listener whose pipes lead to that port."""
    host = PipeHost("127.0.0.1", to)
    listener = Listener(IDENTITY, {REDIS: host.accept})
    address = await listener.start("127.0.0.1", 0)
    try:
        yield address, host
    finally:
        listener.close()
        await host.close()


@asynccontextmanager
async def echoing() -> AsyncIterator[int]:
    """A server that says back what it is told, until it is told to end."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (data := await reader.read(100_000)) and data != b"end":
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def connected(address: str) -> ssl.SSLSocket:
    return open_socket(address, IDENTITY, REDIS, PATIENCE_S)


def exchanged(connection: ssl.SSLSocket, data: bytes) -> bytes:
    connection.sendall(data)
    came = b""
    while len(came) < len(data) and (part := connection.recv(100_000)):
        came += part
    return came


def test_bytes_go_both_ways_and_an_end_is_passed_on() -> None:
    data = os.urandom(100_000)

    async def main() -> None:
        async with echoing() as port, piped(port) as (address, host):
            connection = await asyncio.to_thread(connected, address)
            with connection:
                assert await asyncio.to_thread(exchanged, connection, b"PING\r\n") == b"PING\r\n"
                assert await asyncio.to_thread(exchanged, connection, data) == data
                await asyncio.to_thread(connection.sendall, b"end")
                assert await asyncio.to_thread(connection.recv, 1) == b""
            assert not host._pipes

    run(main())


def test_as_streams_of_the_standard_library() -> None:
    async def main() -> None:
        async with echoing() as port, piped(port) as (address, _):
            host, _, outside = address.rpartition(":")
            context = IDENTITY.client_context(REDIS)
            reader, writer = await asyncio.open_connection(host, int(outside), ssl=context)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.close()
            await writer.wait_closed()

    run(main())


def test_a_side_that_does_not_read_stops_the_other() -> None:
    """What one sends and the other does not take stays with the sender, not with us."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            async with piped(server.getsockname()[1]) as (address, host):
                connection = await asyncio.to_thread(connected, address)
                inside, _ = await loop.sock_accept(server)
                connection.setblocking(False)
                sent = 0
                with connection, inside:
                    for _ in range(3):  # until it is full, and again after some turns of the loop
                        try:
                            while True:
                                sent += connection.send(bytes(1 << 20))
                        except ssl.SSLWantWriteError:
                            await asyncio.sleep(0.02)
                    (pipe,) = host._pipes
                    assert len(pipe._to_server) < 200_000
                    assert sent < 40 << 20
                    came = 0
                    while came < sent - (1 << 20):
                        came += len(await loop.sock_recv(inside, 1 << 20))

    run(main())


def test_no_server_is_an_end_at_once() -> None:
    async def main() -> None:
        async with piped(free_port()) as (address, _):
            connection = await asyncio.to_thread(connected, address)
            with connection:
                assert await asyncio.to_thread(connection.recv, 1) == b""

    run(main())


def test_a_node_without_a_control_store_says_so() -> None:
    async def main() -> None:
        listener = Listener(IDENTITY, {LINK: lambda channel: channel.close()})
        address = await listener.start("127.0.0.1", 0)
        try:
            with pytest.raises(PeerUnreachableError, match="not one that serves ray-redis/1"):
                await asyncio.to_thread(connected, address)
        finally:
            listener.close()

    run(main())
