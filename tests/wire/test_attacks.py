"""Whoever has no token gets nothing from a node's port, costs it little, and keeps nobody out.

`make chaos` runs the full forms.
"""

import asyncio
import os
import random
import resource
import socket
import ssl
import time
from collections.abc import Iterator

import pytest

from ray.errors import PeerUnreachableError, WrongTokenError
from ray.wire import listener as listener_module
from ray.wire.channel import Refusal
from ray.wire.connecting import connect, open_channel, open_channel_waiting, open_socket
from ray.wire.frames import FrameWriter
from ray.wire.identity import BULK, LINK, Identity
from ray.wire.link import EndKind
from ray.wire.messages import Message, Ping
from ray.wire.token import SECRET_BYTES, ClusterToken
from tests.wire.running import FULL, IDENTITY, PATIENCE_S, Heard, hello, node, plain, run, times

JOIN_S = 1.0  # a real peer's way in, whoever else is there
LONG_S = 3600  # for a full form


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def first_flight(identity: Identity = IDENTITY) -> bytes:
    """What a real client sends first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = identity.client_context(LINK).wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def answer(address: str, data: bytes) -> bytes:
    """What the port says to that, until it closes."""
    said = b""
    with plain(address) as connection:
        try:
            connection.sendall(data)
            while part := connection.recv(65536):
                said += part
        except ConnectionError:
            pass
    return said


def knock(address: str, token: ClusterToken) -> None:
    """A client with that token, which minds no certificate, gets not one byte of an application."""
    context = Identity.of(token).client_context(LINK)
    context.verify_mode = ssl.CERT_NONE
    with plain(address) as connection:
        try:
            with context.wrap_socket(connection) as shaken:
                assert shaken.recv(1) == b""
        except (ssl.SSLError, ConnectionError):
            pass


async def joins(address: str) -> float:
    """A real peer's time to get a link."""
    began = time.monotonic()
    link = await connect(address, IDENTITY, hello(), PATIENCE_S)
    took = time.monotonic() - began
    link.abort("the test is over")
    return took


@pytest.mark.timeout(LONG_S if FULL else 120)
def test_wrong_tokens_are_refused() -> None:
    count = times(100_000, 200)
    secret = bytes(range(SECRET_BYTES))
    near = [secret[:-1] + bytes([secret[-1] ^ 1 << bit]) for bit in range(8)]
    tokens = [*near, *(os.urandom(SECRET_BYTES) for _ in range(count - len(near)))]

    def knock_all(address: str) -> None:
        for wrong in tokens:
            knock(address, ClusterToken(wrong))

    async def main() -> None:
        async with node() as there:
            await asyncio.to_thread(knock_all, there.listener.address)
            await there.until(lambda: there.listener.refusals.total() == count)
            assert set(there.listener.refusals) == {Refusal.TOKEN}
            assert there.links.empty()
            assert there.errors.empty()
            await joins(there.listener.address)

    run(main())


def test_both_sides_say_that_the_token_is_wrong() -> None:
    stranger = Identity.of(ClusterToken.new())

    async def main() -> None:
        async with node() as there:
            address = there.listener.address
            with pytest.raises(WrongTokenError, match="not belong to the cluster of this token"):
                await connect(address, stranger, hello())
            for way in (open_channel_waiting, open_socket):
                with pytest.raises(WrongTokenError):
                    await asyncio.to_thread(way, address, stranger, BULK, PATIENCE_S)
            await there.until(lambda: there.listener.refusals[Refusal.TOKEN] == 3)

    run(main())


def test_what_is_no_tls_is_ended_at_once() -> None:
    flight = first_flight()
    garbage = [
        b"GET / HTTP/1.1\r\nHost: head\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"AUTH x\r\n",
        b"\x80\x04\x95pickle.",
        bytes(1000),
        b"\xff" * 1000,
        flight[:5] + bytes(len(flight) - 5),
        flight[:1] + b"\x03\x00" + flight[3:9] + b"\x02" + flight[10:],
        flight * 2,
    ]

    async def main() -> None:
        async with node() as there:
            for data in garbage:
                said = await asyncio.to_thread(answer, there.listener.address, data)
                assert len(said) < 2000  # an alert, or a first flight at most
            await there.until(lambda: there.listener.unfinished == 0)
            assert there.listener.refusals.total() == len(garbage)
            assert there.listener.refusals[Refusal.NOT_TLS] >= len(garbage) - 1
            assert there.links.empty()
            await joins(there.listener.address)

    run(main())


@pytest.mark.timeout(LONG_S if FULL else 120)
def test_damaged_handshakes() -> None:
    """A real client's first flight, cut off, with bytes changed, with bytes put in."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    count = times(1_000_000, 150)

    def attack(address: str) -> None:
        flight = first_flight()
        for _ in range(count):
            data = bytearray(flight)
            for _ in range(choose.randrange(1, 5)):
                data[choose.randrange(len(data))] = choose.randrange(256)
            place = choose.randrange(len(data))
            match choose.randrange(3):
                case 0:
                    del data[place:]
                case 1:
                    data[place:place] = choose.randbytes(choose.randrange(1, 50))
            with plain(address) as connection:
                connection.sendall(data)

    async def main() -> None:
        async with node() as there:
            await asyncio.to_thread(attack, there.listener.address)
            await there.until(lambda: there.listener.refusals.total() == count)
            assert there.listener.unfinished == 0
            assert there.links.empty()
            await joins(there.listener.address)

    run(main())


def test_what_an_unknown_peer_may_send_is_counted() -> None:
    """A hello that announces more than 16 KiB is refused for it: TLS would make room for all of it at once.
    One that announces as much, and comes a few bytes at a time, is cut off when it is more after all."""
    flight = first_flight()

    def hello_of(size: int, record: int) -> bytes:
        body = b"\x01" + size.to_bytes(3, "big") + flight[9:] + bytes(size)
        parts = [body[place : place + record] for place in range(0, len(body), record)]
        return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)

    async def main() -> None:
        async with node() as there:
            for number, data in enumerate(
                [hello_of(130_816, 1000), hello_of(16_385, 1000), hello_of(16_384, 9), hello_of(300, 1)]
            ):
                await asyncio.to_thread(answer, there.listener.address, data)
                await there.until(lambda at=number: there.listener.refusals.total() == at + 1)
            assert there.listener.refusals == {Refusal.TOO_MUCH: 3, Refusal.NOT_TLS: 1}

    run(main())


def test_who_does_not_go_on_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "HANDSHAKE_S", 0.1)
    flight = first_flight()

    async def main() -> None:
        async with node() as there:
            for data in (b"", flight[:1], flight):
                said = await asyncio.to_thread(answer, there.listener.address, data)
                assert bool(said) == (data == flight)
            assert there.listener.refusals == {Refusal.TIMEOUT: 3}
            assert there.listener.unfinished == 0

    run(main())


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.timeout(LONG_S if FULL else 120)
def test_a_crowd_of_idle_connections_keeps_nobody_out() -> None:
    count = times(10_000, 300)

    async def main() -> None:
        async with node() as there:
            address = there.listener.address
            idle: list[socket.socket] = []

            def crowd(number: int) -> None:
                for _ in range(number):
                    idle.append(plain(address))

            try:
                slowest = 0.0
                for _ in range(10):
                    await asyncio.to_thread(crowd, count // 10)
                    slowest = max(slowest, await joins(address))
                await there.until(lambda: there.listener.refusals.total() >= count - 64)
                slowest = max(slowest, await joins(address))
                assert there.listener.unfinished <= listener_module.MAX_UNFINISHED
                print(f"{count} idle connections, a real peer is in after {slowest * 1000:.0f} ms at most")
                if FULL:
                    assert slowest < JOIN_S
            finally:
                for connection in idle:
                    connection.close()

    run(main())


def test_a_crowd_that_has_begun_its_handshakes_makes_room_too() -> None:
    """Here the oldest have to go, since all have sent something."""
    flight = first_flight()

    async def main() -> None:
        async with node() as there:
            crowd: list[socket.socket] = []
            for _ in range(listener_module.MAX_UNFINISHED + 6):
                connection = plain(there.listener.address)
                crowd.append(connection)
                connection.sendall(flight[:100])
            await there.until(lambda: there.listener.refusals[Refusal.CROWDED] == 6)
            await joins(there.listener.address)
            for connection in crowd:
                connection.close()
            await there.until(lambda: there.listener.unfinished == 0)

    run(main())


def test_without_descriptors_it_rests_and_goes_on() -> None:
    async def main() -> None:
        async with node() as there:
            host, _, port = there.listener.address.rpartition(":")
            waiting = [socket.socket() for _ in range(3)]
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            # The next descriptor that could be opened would be this one, so it can't.
            with socket.socket() as next_one:
                lowest_free = next_one.fileno()
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
            try:
                for connection in waiting:
                    connection.connect((host, int(port)))
                await there.until(lambda: there.listener._rest is not None)
                assert there.listener.unfinished == 0
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await there.until(lambda: there.listener.unfinished == 3)
            for connection in waiting:
                connection.close()
            await joins(there.listener.address)

    run(main())


def test_after_the_handshake_a_purpose_is_needed() -> None:
    """Who has the token but asks for something else, or for nothing, is refused as well."""

    def without_purpose(address: str) -> bytes:
        context = IDENTITY._context(ssl.PROTOCOL_TLS_CLIENT, [])
        with context.wrap_socket(plain(address)) as connection:
            return connection.recv(1)

    async def main() -> None:
        async with node() as there:
            with pytest.raises(PeerUnreachableError, match="not one that serves ray-bulk/2"):
                await open_channel(there.listener.address, IDENTITY, BULK)
            assert await asyncio.to_thread(without_purpose, there.listener.address) == b""
            await there.until(lambda: there.listener.refusals == {Refusal.PURPOSE: 2})

    run(main())


def test_a_listener_that_closes_takes_unfinished_peers_with_it() -> None:
    async def main() -> None:
        async with node() as there:
            with plain(there.listener.address) as connection:
                await there.until(lambda: there.listener.unfinished == 1)
                there.listener.close()
                assert await asyncio.to_thread(connection.recv, 1) == b""

    run(main())


def test_members_that_misbehave_lose_their_link_only() -> None:
    """Damaged frames behind a real handshake: before the Hello, in its place, and after it."""

    def say(address: str, *parts: bytes) -> None:
        channel = open_channel_waiting(address, IDENTITY, LINK, PATIENCE_S)
        try:
            for part in parts:
                channel.write(part)
            while channel.read_into(memoryview(bytearray(1000))) == 1000:
                pass
        except ConnectionError:
            pass
        finally:
            channel.close()

    def framed(*messages: Message) -> bytes:
        writer = FrameWriter()
        for message in messages:
            writer.add(message)
        return b"".join(writer.take())

    async def main() -> None:
        async with node() as there:
            address = there.listener.address
            good = Heard(await connect(address, IDENTITY, hello()))
            theirs = await there.link()
            for data in (
                b"\xff\xff\xff\xff",
                b"\x00\x00\x00\x01\xc1",
                framed(Ping(1)),
                framed(hello(), Ping(1)),
                framed(hello())[:-5] + b"\xff" * 5,
            ):
                await asyncio.to_thread(say, address, data)
                assert isinstance(await there.errors.get(), PeerUnreachableError)
            for data in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x04\x91\x92\x02\xff"):
                await asyncio.to_thread(say, address, framed(hello()), framed(Ping(5)), data, framed(Ping(6)))
                bad = await there.link()
                assert (await bad.ended()).kind is EndKind.DAMAGED
                assert bad.messages == [Ping(5)]
            good.link.send(Ping(9))
            assert await theirs.count(1) == [Ping(9)]
            good.link.abort("the test is over")

    run(main())


def test_garbage_under_tls_ends_the_link() -> None:
    """A man in the middle who changes bytes, or puts some in, ends it and nothing else."""

    async def main() -> None:
        async with node() as there:
            ours = Heard(await connect(there.listener.address, IDENTITY, hello()))
            theirs = await there.link()
            ours.link._connection.send(b"\x17\x03\x03\x00\x20" + bytes(32))
            end = await theirs.ended()
            assert end.kind is EndKind.BROKEN
            assert "TLS" in end.text
            await ours.ended()

    run(main())
