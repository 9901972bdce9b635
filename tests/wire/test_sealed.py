"""Sealed frames: what arrives is what was sent, in its order, or nothing; and TLS ends before they begin.

`make chaos` runs the full forms.
"""

import asyncio
import contextlib
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from ray.wire import bulk as bulk_module
from ray.wire import sealed
from ray.wire.bulk import BulkClient, BulkServer, TransferBrokenError
from ray.wire.channel import Channel
from ray.wire.connecting import open_channel_waiting
from ray.wire.identity import BULK
from ray.wire.listener import Listener
from ray.wire.sealed import (
    AGREED,
    BUSY,
    FRAME_BYTES,
    KEY_BYTES,
    KEYS_BYTES,
    TAG_BYTES,
    FrameDamagedError,
    NotAgreedError,
    Progress,
    Sealed,
)
from tests.wire.running import FULL, IDENTITY, PATIENCE_S, plain, run, times

ONE, OTHER = b"1" * KEY_BYTES, b"2" * KEY_BYTES
HERE = b"h" * 20
PLAIN = b"nobody on the way can read this. "
VALUE = PLAIN * (5 * FRAME_BYTES // 2 // len(PLAIN))  # two frames and a half


@contextmanager
def ends(sends: bytes = ONE, receives: bytes = ONE) -> Iterator[tuple[Sealed, Sealed]]:
    """One that writes and one that reads."""
    one, other = socket.socketpair()
    with one, other:
        for each in (one, other):
            each.settimeout(PATIENCE_S)
        yield Sealed(one, "other", sends, OTHER), Sealed(other, "one", OTHER, receives)


def on_the_way(*parts: bytes) -> list[bytes]:
    """The frames in which these are sent."""
    with ends() as (writer, reader):
        reader.socket.settimeout(None)  # else it does not wait for all
        frames = []
        for part in parts:
            sending = threading.Thread(target=writer.write, args=(part,))
            sending.start()
            for start in range(0, len(part), FRAME_BYTES):
                frame = bytearray(min(FRAME_BYTES, len(part) - start) + TAG_BYTES)
                assert reader.socket.recv_into(frame, 0, socket.MSG_WAITALL) == len(frame)
                frames.append(bytes(frame))
            sending.join()
    return frames


def read(data: bytes, size: int, key: bytes = ONE) -> tuple[bytes, type[OSError] | None]:
    """What a reader takes of that, when it reads `size` bytes and nothing more comes; and its error."""
    with ends(receives=key) as (writer, reader):
        sending = threading.Thread(target=_send, args=(writer.socket, data))
        sending.start()
        into, progress = memoryview(bytearray(size)), Progress()
        error = None
        try:
            assert reader.read_into(into, progress) == progress.received
        except FrameDamagedError as damaged:
            error = type(damaged)
        reader.close()  # what it does not want is not waited for
        sending.join()
        return bytes(into[: progress.received]), error


def _send(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    "size", [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES, 3 * FRAME_BYTES + 7]
)
def test_what_is_sent_arrives(size: int) -> None:
    data = os.urandom(size)
    with ends() as (writer, reader):
        for _ in range(2):
            sending = threading.Thread(target=writer.write, args=(data,))
            sending.start()
            into = bytearray(size)
            assert reader.read_into(memoryview(into)) == size
            sending.join()
            assert into == data
        frames = 2 * -(-size // FRAME_BYTES)
        assert writer.sent_bytes == 2 * size + frames * TAG_BYTES


def test_what_is_on_the_way_cannot_be_read() -> None:
    frames = on_the_way(VALUE)
    assert [len(frame) for frame in frames] == [FRAME_BYTES + TAG_BYTES] * 2 + [
        len(VALUE) - 2 * FRAME_BYTES + TAG_BYTES
    ]
    assert not any(PLAIN[:8] in frame for frame in frames)


def test_the_same_said_twice_looks_different() -> None:
    first, second = on_the_way(PLAIN, PLAIN)
    assert first != second
    assert read(first + second, len(PLAIN)) == (PLAIN, None)


def test_every_changed_bit_is_noticed() -> None:
    (frame,) = on_the_way(PLAIN)
    for bit in range(8 * len(frame)):
        data = bytearray(frame)
        data[bit // 8] ^= 1 << bit % 8
        assert read(bytes(data), len(PLAIN)) == (b"", FrameDamagedError)


def test_frames_out_of_their_order_are_noticed() -> None:
    """One that has gone before, of the same connection, is as wrong as one that is still to come."""
    whole = VALUE[: 2 * FRAME_BYTES]
    first, second = on_the_way(whole)
    assert read(first + second, len(whole)) == (whole, None)
    for frames, taken in (
        ((second, first), 0),
        ((second,), 0),
        ((first, first), 1),
        ((first, bytes(len(first))), 1),
    ):
        came = read(b"".join(frames), len(whole))
        assert came == (whole[: taken * FRAME_BYTES], FrameDamagedError)


def test_what_was_cut_off_is_missing() -> None:
    """A reader learns that the other side has ended, and has the whole frames before that."""
    whole = VALUE[: FRAME_BYTES + 100]
    frames = b"".join(on_the_way(whole))
    for end in (0, 1, FRAME_BYTES, FRAME_BYTES + TAG_BYTES - 1):
        assert read(frames[:end], len(whole)) == (b"", None)
    for end in (FRAME_BYTES + TAG_BYTES, FRAME_BYTES + TAG_BYTES + 50, len(frames) - 1):
        assert read(frames[:end], len(whole)) == (whole[:FRAME_BYTES], None)


def test_a_frame_of_another_length_is_noticed() -> None:
    """Nothing says how long a frame is: one that is longer or shorter than what is read fails as a whole."""
    (frame,) = on_the_way(PLAIN)
    following = bytes(2 * len(PLAIN))
    for size in (1, len(PLAIN) - 1, len(PLAIN) + 1, 2 * len(PLAIN)):
        assert read(frame + following, size) == (b"", FrameDamagedError)


def test_other_keys_fit_nothing() -> None:
    """Nor does that of the other direction: what somebody said can't be sent back to him."""
    (frame,) = on_the_way(PLAIN)
    for key in (OTHER, ONE[:-1] + b"3", bytes(KEY_BYTES)):
        assert read(frame, len(PLAIN), key) == (b"", FrameDamagedError)
    assert read(frame, len(PLAIN)) == (PLAIN, None)


@pytest.mark.timeout(3600 if FULL else 120)
def test_damaged_streams() -> None:
    """Bytes changed, put in and left out; frames moved, repeated and left out: whatever comes, a reader has
    whole frames of what was sent, from its beginning, and no other byte."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    said = [choose.randbytes(choose.choice((1, 17, 36, 1000))) for _ in range(6)]
    frames = on_the_way(*said)
    damaged = 0
    for _ in range(times(1_000_000, 3_000)):
        data = _damaged(choose, frames)
        with ends() as (writer, reader):
            writer.socket.sendall(data)
            writer.close()
            whole = 0
            try:
                for part in said:
                    into = memoryview(bytearray(len(part)))
                    if reader.read_into(into) < len(part):
                        break
                    assert into == part
                    whole += 1
            except FrameDamagedError:
                damaged += 1
            # So many frames stand at the beginning as they were sent.
            assert data.startswith(b"".join(frames[:whole]))
    assert damaged > 1000


def _damaged(choose: random.Random, frames: list[bytes]) -> bytes:
    several = list(frames)
    one, other = choose.randrange(len(frames)), choose.randrange(len(frames))
    match choose.randrange(4):
        case 0:
            several[one], several[other] = several[other], several[one]
        case 1:
            several[one] = several[other]
        case 2:
            del several[one]
    data = bytearray(b"".join(several))
    for _ in range(choose.choice((0, 1, 1, 4))):
        place = choose.randrange(len(data))
        match choose.randrange(4):
            case 0:
                data[place] ^= 1 << choose.randrange(8)
            case 1:
                data[place:place] = choose.randbytes(choose.randrange(1, 40))
            case 2:
                del data[place : place + choose.randrange(1, 40)]
                data += b"" if data else b"\0"
            case 3:
                del data[place + 1 :]
    return bytes(data)


# --- from TLS to frames ---------------------------------------------------------------------------


@asynccontextmanager
async def serving(value: bytes = VALUE) -> AsyncIterator[tuple[str, BulkClient]]:
    server = BulkServer(lambda _: contextlib.nullcontext(memoryview(value)))
    client = BulkClient(IDENTITY)
    listener = Listener(IDENTITY, {BULK: server.accept})
    address = await listener.start("127.0.0.1", 0)
    try:
        yield address, client
    finally:
        client.close()
        listener.close()
        server.close()


class Between:
    """A listener that passes bytes on to another; `change` sees what comes from there, and its place."""

    def __init__(self, address: str) -> None:
        self.there = address
        self.change: Callable[[int, bytearray], None] = lambda place, data: None
        self.seen = {"to": bytearray(), "from": bytearray()}
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            server = plain(self.there)
            for ways in ((client, server, "to"), (server, client, "from")):
                thread = threading.Thread(target=self._carry, args=ways)
                self._threads.append(thread)
                thread.start()

    def _carry(self, source: socket.socket, target: socket.socket, way: str) -> None:
        with contextlib.suppress(OSError):
            while data := bytearray(source.recv(1 << 16)):
                place = len(self.seen[way])
                self.seen[way] += data
                if way == "from":
                    self.change(place, data)
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            if way == "from":
                each.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


def test_who_stands_between_reads_nothing_and_changes_nothing() -> None:
    async def main() -> None:
        async with serving() as (address, client):
            between = Between(address)
            try:
                into = bytearray(len(VALUE))
                for _ in range(2):
                    assert await client.fetch(between.address, HERE, 0, memoryview(into)) == len(VALUE)
                    assert into == VALUE
                    client.forget(between.address)
                assert len(between.seen["from"]) > 2 * len(VALUE)
                assert PLAIN[:8] not in between.seen["from"]
                assert HERE not in between.seen["to"]

                end = len(between.seen["from"]) + len(VALUE)  # in the last frame, whose tag is behind it

                def flip(place: int, data: bytearray) -> None:
                    if place <= end < place + len(data):
                        data[end - place] ^= 1

                between.change = flip
                into[:] = bytes(len(VALUE))
                with pytest.raises(TransferBrokenError, match="not what the other side sent") as broken:
                    await client.fetch(between.address, HERE, 0, memoryview(into))
                assert broken.value.received == 2 * FRAME_BYTES
                assert into[: 2 * FRAME_BYTES] == VALUE[: 2 * FRAME_BYTES]
            finally:
                client.close()
                between.close()

    run(main())


def test_keys_are_new_for_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[bytes] = []
    real = sealed.Sealed

    def noting(connection: socket.socket, address: str, sends: bytes, receives: bytes) -> Sealed:
        keys.extend((sends, receives))
        return real(connection, address, sends, receives)

    monkeypatch.setattr(sealed, "Sealed", noting)

    async def main() -> None:
        async with serving() as (address, client):
            for _ in range(3):
                await client.fetch(address, HERE, 0, memoryview(bytearray(5)))
                client.forget(address)

    run(main())
    assert len(keys) == 12
    assert len(set(keys)) == 6  # each known to both sides, and used for one direction by both


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
def test_within_a_machine_nothing_is_paced(source: str) -> None:
    """Whatever algorithm the system has for all."""
    paced: list[bytes] = []

    def accept(channel: Channel) -> None:
        channel.connection.settimeout(PATIENCE_S)
        with contextlib.closing(sealed.take(channel)) as connection:
            paced.append(_algorithm(connection.socket))

    async def main() -> None:
        listener = Listener(IDENTITY, {BULK: accept})
        address = await listener.start("127.0.0.1", 0)

        def connect() -> None:
            with contextlib.closing(
                open_channel_waiting(address, IDENTITY, BULK, PATIENCE_S, source)
            ) as channel:
                paced.append(_algorithm(sealed.offer(channel).socket))

        try:
            await asyncio.to_thread(connect)
        finally:
            listener.close()

    run(main())
    assert paced == [b"reno"] * 2


def _algorithm(connection: socket.socket) -> bytes:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


def test_a_connection_ends_before_its_keys_are_worn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_module, "MAX_CONNECTION_BYTES", len(VALUE))
    made: list[Channel] = []
    real = bulk_module.open_channel_waiting

    def noting(*given: object) -> Channel:
        made.append(real(*given))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(bulk_module, "open_channel_waiting", noting)

    async def main() -> None:
        async with serving() as (address, client):
            into = bytearray(len(VALUE) - 1000)
            for number in (1, 1, 2, 2, 3):
                await client.fetch(address, HERE, 1000, memoryview(into))
                assert into == VALUE[1000:]
                assert len(made) == number

    run(main())


def test_a_server_that_does_not_agree_is_a_broken_transfer() -> None:
    """One that speaks TLS and no frames, one that says more than its answer, and one that leaves."""
    answers: list[bytes] = []

    def accept(channel: Channel) -> None:
        channel.connection.setblocking(True)
        with contextlib.closing(channel):
            channel.read_into(memoryview(bytearray(KEYS_BYTES)))
            channel.write(answers.pop())

    async def main() -> None:
        client = BulkClient(IDENTITY)
        listener = Listener(IDENTITY, {BULK: accept})
        address = await listener.start("127.0.0.1", 0)
        try:
            for answer, words in (
                (b"", "closed"),
                (BUSY, "as many connections as it takes"),
                (b"\x02", "does not agree"),
                (AGREED + b"\0", "does not agree"),
                (AGREED, "closed|reset|Broken pipe"),
            ):
                answers.append(answer)
                with pytest.raises(TransferBrokenError, match=words) as broken:
                    await client.fetch(address, HERE, 0, memoryview(bytearray(5)))
                assert broken.value.received == 0
        finally:
            client.close()
            listener.close()

    run(main())


def test_a_client_that_does_not_agree_is_cut_off_and_gets_nothing() -> None:
    """One that says more than its keys, before it was answered; one that goes on in TLS; one that leaves."""
    request = bulk_module._REQUEST.pack(HERE, 0, 5)

    def more_than_keys(channel: Channel) -> bytes:
        channel.write(bytes(KEYS_BYTES) + request)
        return _what_comes(channel.connection)

    def goes_on_in_tls(channel: Channel) -> bytes:
        channel.write(bytes(KEYS_BYTES))
        answer = bytearray(1)
        assert channel.read_into(memoryview(answer)) == 1
        assert answer == AGREED
        channel.write(request * 10)
        return _what_comes(channel.connection)

    def leaves(channel: Channel) -> bytes:
        channel.write(bytes(KEYS_BYTES - 1))
        channel.connection.shutdown(socket.SHUT_WR)
        return _what_comes(channel.connection)

    async def main() -> None:
        async with serving() as (address, client):
            for way in (more_than_keys, goes_on_in_tls, leaves):
                channel = await asyncio.to_thread(open_channel_waiting, address, IDENTITY, BULK, PATIENCE_S)
                with contextlib.closing(channel):
                    assert await asyncio.to_thread(way, channel) == b""
            into = bytearray(5)
            await client.fetch(address, HERE, 0, memoryview(into))
            assert into == VALUE[:5]

    run(main())


@pytest.mark.timeout(3600 if FULL else 120)
def test_damaged_requests_at_the_port() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    choose = random.Random(seed)

    def attack(address: str) -> None:
        for _ in range(times(100_000, 30)):
            with contextlib.closing(open_channel_waiting(address, IDENTITY, BULK, PATIENCE_S)) as channel:
                connection = sealed.offer(channel)
                one, other = socket.socketpair()
                with one, other:
                    connection.socket = one
                    connection.write(bulk_module._REQUEST.pack(HERE, 0, 5))
                    frame = bytearray(other.recv(1000))
                frame[choose.randrange(len(frame))] ^= 1 << choose.randrange(8)
                channel.connection.sendall(frame + choose.randbytes(choose.randrange(100)))
                assert _what_comes(channel.connection) == b""

    async def main() -> None:
        async with serving() as (address, client):
            await asyncio.to_thread(attack, address)
            into = bytearray(5)
            await client.fetch(address, HERE, 0, memoryview(into))
            assert into == VALUE[:5]

    run(main())


def _what_comes(connection: socket.socket) -> bytes:
    said = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            said += part
    return said


@pytest.mark.parametrize("leftover", [b"in TLS", b""])
def test_nothing_may_be_under_way_when_tls_ends(leftover: bytes) -> None:
    """Also raw bytes behind the client's keys: they are no frame, but nobody has to find that out."""

    async def main() -> None:
        taken: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()

        def accept(channel: Channel) -> None:
            channel.connection.settimeout(PATIENCE_S)
            threading.Thread(target=take, args=(channel,)).start()

        def take(channel: Channel) -> None:
            error = None
            with contextlib.closing(channel):
                try:
                    sealed.take(channel)
                except OSError as caught:
                    error = caught
            loop.call_soon_threadsafe(taken.set_result, error)

        listener = Listener(IDENTITY, {BULK: accept})
        address = await listener.start("127.0.0.1", 0)
        try:
            channel = await asyncio.to_thread(open_channel_waiting, address, IDENTITY, BULK, PATIENCE_S)
            with contextlib.closing(channel):
                channel.encrypt(memoryview(bytes(KEYS_BYTES) + leftover))
                channel.connection.sendall(channel.outgoing.read() + (b"" if leftover else b"raw"))
                assert isinstance(await taken, NotAgreedError)
        finally:
            listener.close()

    run(main())


def test_the_library_is_not_loaded_before_a_value_travels() -> None:
    loads = "import sys, ray.wire.bulk, ray.wire.relay; print('cryptography' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
