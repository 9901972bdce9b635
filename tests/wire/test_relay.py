"""Connections by way of a third node: links and transfers work as on their own, and end with either side."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ray.errors import PeerUnreachableError
from ray.wire.bulk import BulkClient, BulkServer
from ray.wire.channel import Channel
from ray.wire.connecting import connect, open_channel
from ray.wire.identity import BULK, REDIS, RELAY
from ray.wire.listener import Listener
from ray.wire.messages import Ping
from ray.wire.relay import RelayHost, through
from ray.wire.sealed import KEYS_BYTES
from tests.wire.running import IDENTITY, PATIENCE_S, Heard, hello, node, run

THERE, NOBODY = b"t" * 20, b"n" * 20
VALUE = hashlib.shake_256(b"a value").digest(3_000_017)


@asynccontextmanager
async def relaying(addresses: dict[bytes, str]) -> AsyncIterator[tuple[str, RelayHost]]:
    """A node that passes connections on to these."""

    async def open_to(asked: bytes, purpose: str) -> Channel:
        if asked not in addresses:
            raise PeerUnreachableError(asked.hex(), "not known")
        return await open_channel(addresses[asked], IDENTITY, purpose, PATIENCE_S)

    host = RelayHost(open_to)
    listener = Listener(IDENTITY, {RELAY: host.accept})
    way = await listener.start("127.0.0.1", 0)
    try:
        yield way, host
    finally:
        listener.close()
        await host.close()


def test_a_link_goes_around() -> None:
    async def scenario() -> None:
        async with node() as there, relaying({THERE: there.listener.address}) as (way, host):
            link = await connect(through(way, THERE), IDENTITY, hello(1))
            here, other = Heard(link), await there.link()
            assert link.peer.node_id == there.said.node_id
            for number in range(1_000):
                link.send(Ping(number))
                other.link.send(Ping(number))
            expected = [Ping(number) for number in range(1_000)]
            assert await here.count(1_000) == expected
            assert await other.count(1_000) == expected
            assert len(host._ways) == 1
            link.close("enough")
            assert (await other.ended()).text == "enough"
            await here.ended()
            await there.until(lambda: not host._ways)

    run(scenario())


def test_a_transfer_goes_around() -> None:
    async def scenario() -> None:
        server = BulkServer(lambda asked: contextlib.nullcontext(memoryview(VALUE)))
        listener = Listener(IDENTITY, {BULK: server.accept})
        address = await listener.start("127.0.0.1", 0)
        client = BulkClient(IDENTITY)
        try:
            async with relaying({THERE: address}) as (way, _):
                for _ in range(2):  # the second on the connection of the first
                    buffer = bytearray(len(VALUE))
                    fetched = await client.fetch(through(way, THERE), b"o" * 20, 0, memoryview(buffer))
                    assert fetched == len(VALUE)
                    assert buffer == VALUE
                client.close()
        finally:
            listener.close()
            server.close()

    run(scenario())


@pytest.mark.parametrize("reason", ["not known", "gone"])
def test_who_is_not_reached_there_either(reason: str) -> None:
    async def scenario() -> None:
        async with node() as there:
            address = there.listener.address
        async with relaying({THERE: address}) as (way, _):
            asked = NOBODY if reason == "not known" else THERE
            with pytest.raises(PeerUnreachableError, match="does not reach it either"):
                await connect(through(way, asked), IDENTITY, hello(1))

    run(scenario())


def test_who_does_not_wait_for_the_servers_answer_is_cut_off() -> None:
    """From that answer on nobody in between knows what is TLS and what is not."""

    async def scenario() -> None:
        server = BulkServer(lambda asked: contextlib.nullcontext(memoryview(VALUE)))
        listener = Listener(IDENTITY, {BULK: server.accept})
        address = await listener.start("127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        try:
            async with relaying({THERE: address}) as (way, host):
                channel = await open_channel(through(way, THERE), IDENTITY, BULK)
                channel.encrypt(memoryview(bytes(KEYS_BYTES + 1)))
                await loop.sock_sendall(channel.connection, channel.outgoing.read())
                assert await loop.sock_recv(channel.connection, 100) == b""
                channel.close()
                async with asyncio.timeout(PATIENCE_S):
                    while host._ways:
                        await asyncio.wait(list(host._ways))
        finally:
            listener.close()
            server.close()

    run(scenario())


def test_only_links_and_transfers_are_passed_on() -> None:
    async def scenario() -> None:
        async with node() as there, relaying({THERE: there.listener.address}) as (way, _):
            with pytest.raises(ValueError, match="not in"):
                await open_channel(through(way, THERE), IDENTITY, REDIS)
            channel = await open_channel(way, IDENTITY, RELAY)
            channel.encrypt(memoryview(THERE + b"\x07"))
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(channel.connection, channel.outgoing.read())
            assert await loop.sock_recv(channel.connection, 100) == b""
            channel.close()

    run(scenario())
