"""What a bulk connection speaks after its handshake: frames of its own, sealed with AES-GCM.

TLS lets both sides know whom they have before them, and carries two fresh keys from the client to the server,
one for each direction, and one byte back. With that TLS has said its last: requests, answers and values go in
frames, made by a library that is faster than the one under `ssl`, from where a value lies and to where it is
to lie.

A frame is up to `FRAME_BYTES` of what is said, encrypted, and a tag. Its place in the order of all frames of
that direction is its nonce: one that was changed, left out, put in, repeated or moved fails, and the
connection with it. Nothing says how long a frame is, so no length can lie: both sides know what comes next.
"""

import contextlib
import os
import socket
import struct
import threading
from typing import NoReturn

from ray.wire.channel import Channel

KEY_BYTES = 32
KEYS_BYTES = 2 * KEY_BYTES  # of what the client sends: for its direction, then for the server's
TAG_BYTES = 16
FRAME_BYTES = 512 << 10
AGREED, BUSY = b"\x01", b"\x00"  # the server's answer

_NONCE = struct.Struct(">4xQ")


class Progress:
    """How many bytes have come, for whoever asks after an error."""

    received = 0


class _Room(threading.local):
    memory = memoryview(b"")


_room_of_thread = _Room()


def _room(size: int) -> memoryview:
    """For one frame, until this thread asks again. (Connections are many, and most of them idle.)"""
    if len(_room_of_thread.memory) < size:
        _room_of_thread.memory = memoryview(bytearray(size))
    return _room_of_thread.memory[:size]


class FrameDamagedError(ConnectionError):
    """A frame is not the one that the other side has sent at this place. The connection is of no use."""


class NotAgreedError(ConnectionError):
    """The other side does not go on after the handshake as this one does."""


class ServerBusyError(ConnectionError):
    """The server takes no more connections for the time being."""


class Sealed:
    """A connection after TLS, for one thread at a time, which waits: at most as long as the socket's time-out
    for each step. Whoever has it closes it."""

    def __init__(self, connection: socket.socket, address: str, sends: bytes, receives: bytes) -> None:
        """The two are keys, which never were used before."""
        # On the first value's way, not on a node's: 12 ms, and 7.5 MiB.
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.socket = connection
        self.address = address
        self.sent_bytes = 0  # under one key
        self._seals, self._opens = AESGCM(sends), AESGCM(receives)
        self._invalid = InvalidTag
        self._sent = self._received = 0  # frames

    def settimeout(self, seconds: float) -> None:
        """How long each step may wait."""
        self.socket.settimeout(seconds)

    def close(self) -> None:
        self.socket.close()

    def read_into(self, into: memoryview, progress: Progress | None = None) -> int:
        """Fills it, and returns how many bytes came: fewer than it has only when the other side has ended.

        It is to be as long as what the other side gave to one `write`. Raises OSError; `progress` says how
        far it came. What lies behind that may have been written to, with nothing that is to be trusted.
        """
        size, done = len(into), 0
        try:
            while done < size:
                count = min(FRAME_BYTES, size - done)
                frame = _room(count + TAG_BYTES)
                if not self._fill(frame):
                    break
                with into[done : done + count] as part:
                    self._opens.decrypt_into(_NONCE.pack(self._received), frame, None, part)
                self._received += 1
                done += count
        except self._invalid:
            raise FrameDamagedError("what came was not what the other side sent") from None
        finally:
            if progress is not None:
                progress.received = done
        return done

    def _fill(self, frame: memoryview) -> bool:
        came = 0
        while came < len(frame):
            count = self.socket.recv_into(frame[came:])
            if not count:
                return False
            came += count
        return True

    def write(self, data: bytes | memoryview) -> None:
        """Sends all of it. Raises OSError."""
        size = len(data)
        with memoryview(data) as view:
            for start in range(0, size, FRAME_BYTES):
                count = min(FRAME_BYTES, size - start)
                frame = _room(count + TAG_BYTES)
                nonce = _NONCE.pack(self._sent)
                self._sent += 1  # whatever happens, never again
                with view[start : start + count] as part:
                    self._seals.encrypt_into(nonce, part, None, frame)
                self.sent_bytes += len(frame)
                while frame:  # `sendall` would have one time-out for all of it
                    frame = frame[self.socket.send(frame) :]


def offer(channel: Channel) -> Sealed:
    """The client's part, right after the handshake. Blocks. Raises OSError; the channel is to be closed."""
    keys = os.urandom(KEYS_BYTES)
    answer = memoryview(bytearray(len(AGREED)))
    with contextlib.suppress(ConnectionError):  # it may have said that it is busy, and closed
        channel.write(keys)
    if channel.read_into(answer) < len(answer):
        raise NotAgreedError("the connection was closed")
    if answer == BUSY:
        raise ServerBusyError("it already serves as many connections as it takes")
    if answer != AGREED:
        _not_agreed()
    return _leave_tls(channel, keys[:KEY_BYTES], keys[KEY_BYTES:])


def take(channel: Channel) -> Sealed:
    """The server's part, as `offer`."""
    keys = memoryview(bytearray(KEYS_BYTES))
    if channel.read_into(keys) < len(keys):
        raise NotAgreedError("the connection was closed")
    made = _leave_tls(channel, bytes(keys[KEY_BYTES:]), bytes(keys[:KEY_BYTES]))
    channel.write(AGREED)
    return made


def _leave_tls(channel: Channel, sends: bytes, receives: bytes) -> Sealed:
    """Nothing may be under way at this moment, so that not one byte is taken for what it is not."""
    if channel.has_more:
        _not_agreed()
    _unpace(channel.connection)
    return Sealed(channel.connection, channel.address, sends, receives)


def _unpace(connection: socket.socket) -> None:
    """Within a machine no way is shared with others, and BBR, where the system uses it for all, costs a tenth
    of the processors' time. Every Linux has Reno."""
    with contextlib.suppress(OSError):  # the other side may have left
        here, there = connection.getsockname()[0], connection.getpeername()[0]
        # Nodes that share a machine have loopback addresses of their own.
        if here == there or there.startswith("127."):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")


def _not_agreed() -> NoReturn:
    raise NotAgreedError("it does not agree on how to go on")
