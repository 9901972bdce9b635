"""Bulk transfers: the bytes arrive in the buffer, and what goes wrong says how far it came."""

import asyncio
import contextlib
import hashlib
import os
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager

import pytest

from ray.wire import bulk as bulk_module
from ray.wire import sealed
from ray.wire.bulk import BulkClient, BulkServer, TransferBrokenError, ValueAbsentError
from ray.wire.channel import Channel, shut
from ray.wire.connecting import open_channel_waiting
from ray.wire.identity import BULK
from ray.wire.listener import Listener
from tests.wire.running import FULL, IDENTITY, PATIENCE_S, run, times

HERE = b"h" * 20
AWAY = b"a" * 20
VALUE = hashlib.shake_256(b"a value").digest(3_000_017)


class Values:
    """What a server has, and how many readers a value has at the moment."""

    def __init__(self, value: bytes = VALUE) -> None:
        self.value = value
        self.readers = 0
        self.most_readers = 0
        self._lock = threading.Lock()

    @contextmanager
    def _read(self) -> Iterator[memoryview]:
        with self._lock:
            self.readers += 1
            self.most_readers = max(self.readers, self.most_readers)
        try:
            yield memoryview(self.value)
        finally:
            with self._lock:
                self.readers -= 1

    def resolve(self, object_id: bytes) -> AbstractContextManager[memoryview] | None:
        return self._read() if object_id == HERE else None


@asynccontextmanager
async def serving(
    resolve: Callable[[bytes], AbstractContextManager[memoryview] | None],
    on_error: Callable[[Exception], None] = lambda error: None,
) -> AsyncIterator[tuple[str, BulkClient]]:
    server, client = BulkServer(resolve, on_error), BulkClient(IDENTITY)
    listener = Listener(IDENTITY, {BULK: server.accept})
    address = await listener.start("127.0.0.1", 0)
    try:
        yield address, client
    finally:
        client.close()
        listener.close()
        server.close()


def test_the_whole_and_parts_arrive() -> None:
    values = Values()

    async def main() -> None:
        async with serving(values.resolve) as (address, client):
            whole = bytearray(len(VALUE))
            assert await client.fetch(address, HERE, 0, memoryview(whole)) == len(VALUE)
            assert whole == VALUE
            for offset, length in ((0, 1), (7, 100_000), (len(VALUE) - 5, 5), (len(VALUE), 0)):
                part = bytearray(length)
                assert await client.fetch(address, HERE, offset, memoryview(part)) == len(VALUE)
                assert part == VALUE[offset : offset + length]
            assert values.most_readers == 1
        assert values.readers == 0

    run(main())


def test_several_at_once_take_connections_of_their_own() -> None:
    async def main() -> None:
        async with serving(Values().resolve) as (address, client):
            parts = [bytearray(len(VALUE) // 8) for _ in range(8)]
            fetches = [
                client.fetch(address, HERE, place * len(part), memoryview(part))
                for place, part in enumerate(parts)
            ]
            await asyncio.gather(*fetches)
            assert b"".join(parts) == VALUE[: 8 * len(parts[0])]

    run(main())


def test_what_is_not_there_is_told_and_the_connection_serves_on() -> None:
    async def main() -> None:
        async with serving(Values().resolve) as (address, client):
            into = bytearray(10)
            with pytest.raises(ValueAbsentError, match="does not have the value") as absent:
                await client.fetch(address, AWAY, 0, memoryview(into))
            assert absent.value.received == 0
            with pytest.raises(TransferBrokenError, match="3,000,017 bytes, fewer than"):
                await client.fetch(address, HERE, len(VALUE) - 9, memoryview(into))
            with pytest.raises(TransferBrokenError, match="fewer than"):
                await client.fetch(address, HERE, (1 << 64) - 1, memoryview(into))
            await client.fetch(address, HERE, 0, memoryview(into))
            assert into == VALUE[:10]

    run(main())


def test_a_value_that_cannot_be_read_is_a_typed_error_without_its_text() -> None:
    errors: list[Exception] = []

    def resolve(object_id: bytes) -> None:
        raise OSError("a secret path")

    async def main() -> None:
        async with serving(resolve, errors.append) as (address, client):
            with pytest.raises(TransferBrokenError, match="could not read") as broken:
                await client.fetch(address, HERE, 0, memoryview(bytearray(1)))
            assert "secret" not in str(broken.value)

    run(main())
    assert [str(error) for error in errors] == ["a secret path"]


def test_an_idle_connection_that_the_server_has_closed_is_replaced() -> None:
    async def main() -> None:
        async with serving(Values().resolve) as (address, client):
            into = bytearray(10)
            await client.fetch(address, HERE, 0, memoryview(into))
            ((_, idle),) = client._idle[address]
            shut(idle.socket)
            await client.fetch(address, HERE, 10, memoryview(into))
            assert into == VALUE[10:20]
            client.forget(address)
            await client.fetch(address, HERE, 20, memoryview(into))
            assert into == VALUE[20:30]

    run(main())


def test_a_transfer_that_breaks_says_how_many_bytes_stand_in_the_buffer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk_module, "STALL_S", 0.2)
    size = 64 << 20  # more than the system's buffers hold
    pattern = os.urandom(1 << 20) * (size >> 20)
    entered, leave = threading.Event(), threading.Event()

    @contextmanager
    def stalls() -> Iterator[memoryview]:
        yield memoryview(pattern)

    async def main() -> None:
        async with serving(lambda _: stalls()) as (address, client):
            real = bulk_module.Sealed.write

            def write(self: bulk_module.Sealed, data: bytes | memoryview) -> None:
                if len(data) < size:
                    real(self, data)
                    return
                real(self, memoryview(data)[: size // 2])
                entered.set()
                leave.wait(PATIENCE_S)  # a server that hangs

            monkeypatch.setattr(bulk_module.Sealed, "write", write)
            into = bytearray(size)
            with pytest.raises(TransferBrokenError, match="no answer in time") as broken:
                await client.fetch(address, HERE, 0, memoryview(into))
            leave.set()
            assert broken.value.received == size // 2
            assert into[: size // 2] == pattern[: size // 2]

    run(main())
    assert entered.is_set()


def test_nobody_listens() -> None:
    with contextlib.closing(BulkClient(IDENTITY)) as client:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            address = f"127.0.0.1:{gone.getsockname()[1]}"
        with pytest.raises(TransferBrokenError, match="nothing listens there"):
            client.fetch_waiting(address, HERE, 0, memoryview(bytearray(1)))


def test_after_a_cancellation_nobody_writes_into_the_buffer() -> None:
    began = threading.Event()
    size = 64 << 20
    values = Values(b"1" * size)

    def resolve(object_id: bytes) -> AbstractContextManager[memoryview] | None:
        began.set()
        return values.resolve(object_id)

    async def main() -> None:
        async with serving(resolve) as (address, client):
            into = bytearray(size)
            fetch = asyncio.create_task(client.fetch(address, HERE, 0, memoryview(into)))
            await asyncio.to_thread(began.wait, PATIENCE_S)
            fetch.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetch
            into[:] = bytes(size)
        assert into.count(0) == size

    run(main())
    assert values.readers == 0


def test_a_crowd_of_connections_is_refused_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_module, "MAX_CONNECTIONS", 1)
    held, release = threading.Event(), threading.Event()

    @contextmanager
    def slow() -> Iterator[memoryview]:
        held.set()
        release.wait(PATIENCE_S)
        yield memoryview(VALUE)

    async def main() -> None:
        async with serving(lambda _: slow()) as (address, client):
            first = asyncio.create_task(client.fetch(address, HERE, 0, memoryview(bytearray(5))))
            await asyncio.to_thread(held.wait, PATIENCE_S)
            with pytest.raises(TransferBrokenError, match="already serves as many"):
                await client.fetch(address, HERE, 0, memoryview(bytearray(5)))
            release.set()
            await first

    run(main())


@pytest.mark.timeout(3600 if FULL else 120)
def test_a_member_that_asks_for_nonsense_is_told_so_or_cut_off() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    choose = random.Random(seed)

    def ask(address: str, data: bytes) -> bytes:
        with contextlib.closing(open_channel_waiting(address, IDENTITY, BULK, PATIENCE_S)) as channel:
            connection = sealed.offer(channel)
            connection.write(data)
            answer = bytearray(bulk_module._ANSWER.size)
            assert connection.read_into(memoryview(answer)) == len(answer)
            return bytes(answer)

    async def main() -> None:
        async with serving(Values().resolve) as (address, client):
            for _ in range(times(20_000, 30)):
                answer = await asyncio.to_thread(ask, address, choose.randbytes(36))
                assert answer[0] == bulk_module.Status.ABSENT
            for offset, length in ((1 << 63, 1 << 63), ((1 << 64) - 1, 1), (0, len(VALUE) + 1)):
                request = bulk_module._REQUEST.pack(HERE, offset, length)
                answer = await asyncio.to_thread(ask, address, request)
                assert answer[0] == bulk_module.Status.OUTSIDE
            await client.fetch(address, HERE, 0, memoryview(bytearray(1)))

    run(main())


def test_a_node_that_answers_nonsense_is_a_broken_transfer() -> None:
    """Also one that sends more than was asked for: not a byte of it gets behind the buffer's end."""
    answers: list[list[bytes]] = []

    def accept(channel: Channel) -> None:
        channel.connection.setblocking(True)
        with contextlib.closing(sealed.take(channel)) as connection:
            # The request is read first: to close a socket with bytes unread resets it, answer and all.
            connection.read_into(memoryview(bytearray(bulk_module._REQUEST.size)))
            for part in answers.pop():
                connection.write(part)

    async def main() -> None:
        client = BulkClient(IDENTITY)
        listener = Listener(IDENTITY, {BULK: accept})
        address = await listener.start("127.0.0.1", 0)
        pack = bulk_module._ANSWER.pack
        guard = bytearray(b"guard" * 4)
        try:
            for answer, words in (
                ([], "closed"),
                ([bytes(16)], "closed"),
                ([pack(99, 0, 0)], "makes no sense"),
                ([pack(0, 5, 11)], "makes no sense"),
                ([pack(0, 100, 10), b"12345"], "closed"),
                ([pack(0, 100, 10), b"x" * 20], "not what the other side sent"),
            ):
                answers.append(answer)
                with pytest.raises(TransferBrokenError, match=words) as broken:
                    await client.fetch(address, HERE, 0, memoryview(guard)[:10])
                assert broken.value.received == 0
                assert guard[10:] == b"guard" * 2
            answers.append([pack(0, 100, 10), b"x" * 10])
            assert await client.fetch(address, HERE, 0, memoryview(guard)[:10]) == 100
            assert guard == b"x" * 10 + b"guard" * 2
        finally:
            client.close()
            listener.close()

    run(main())
