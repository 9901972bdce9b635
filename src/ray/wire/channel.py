"""One connection with TLS on it: the handshake on an event loop, and after it bytes in and out.

TLS works on buffers in memory here, not on the socket: so what a peer may send before it has shown the
certificate is counted byte by byte. Large values don't go through it (`ray.wire.sealed`).
"""

import asyncio
import contextlib
import enum
import socket
import ssl
import struct
from collections.abc import Callable
from typing import cast

from ray.wire.identity import Identity

HANDSHAKE_BYTES = 16 << 10  # from an unknown peer; a real one sends less than 4 KiB
RECORD_BYTES = 16 << 10  # the largest of TLS: no read gives more
CHUNK_BYTES = 256 << 10  # between the socket and TLS, at once
WINDOW_BYTES = 32 << 10  # what the system holds for an unknown peer that we have not read


# Kind, version and length of a record; kind and length (of three bytes) of the message in it.
_HELLO_HEAD = struct.Struct(">BBxHBBH")
_HANDSHAKE, _MAJOR, _CLIENT_HELLO = 22, 3, 1
_HELLO_LEAST = 4  # no real client cuts up the message's own head


class Refusal(enum.Enum):
    """Why a handshake came to nothing."""

    TOKEN = "its certificate is not that of this cluster's token"
    NOT_TLS = "it does not speak TLS 1.3"
    TOO_MUCH = "it sent more than a handshake has"
    TIMEOUT = "it did not finish its handshake in time"
    CROWDED = "too many others were waiting, and it had waited longest"
    LEFT = "it closed the connection"
    PURPOSE = "the connection has no purpose that is served here"


class Channel:
    """A socket and the TLS session on it, after the handshake.

    Whoever has it closes it. It is used either by an event loop's thread, with the socket non-blocking, or by
    one thread at a time that waits, with the socket's time-out.
    """

    def __init__(
        self,
        connection: socket.socket,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
    ) -> None:
        self.connection = connection
        self.tls = tls
        self.incoming = incoming
        self.outgoing = outgoing
        self.address = address_of(connection)

    @property
    def protocol(self) -> str | None:
        """What the connection is for: one of the names in `ray.wire.identity`."""
        return self.tls.selected_alpn_protocol()

    @property
    def has_more(self) -> bool:
        """Whether something has come that was not read."""
        return bool(self.incoming.pending or self.tls.pending())

    def close(self) -> None:
        self.connection.close()

    # --- for threads that wait ---

    def read_into(self, into: memoryview) -> int:
        """Fills it, and returns how many bytes came: fewer than it has only when the other side has ended.

        Blocks, each wait at most as long as the socket's time-out. Raises OSError.
        """
        size, done = len(into), 0
        while done < size:
            try:
                count = cast(int, self.tls.read(size - done, into[done:]))  # its stub says bytes
            except ssl.SSLWantReadError:
                data = self.connection.recv(RECORD_BYTES)
                if not data:
                    break
                self.incoming.write(data)
                continue
            if not count:
                break
            done += count
        return done

    def write(self, data: bytes) -> None:
        """Sends all of it. Blocks, at most as long as the socket's time-out. Raises OSError."""
        self.encrypt(memoryview(data))
        self.connection.sendall(self.outgoing.read())

    def encrypt(self, data: memoryview) -> None:
        """Puts it on its way to the socket, in `outgoing`."""
        while data:
            data = data[self.tls.write(data) :]

    def shake_hands(self) -> None:
        """The handshake, for a thread that waits. Raises OSError; ssl.SSLError is one."""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.connection.sendall(self.outgoing.read())
                data = self.connection.recv(RECORD_BYTES)
                if not data:
                    raise ConnectionResetError(Refusal.LEFT.value) from None
                self.incoming.write(data)
            except ssl.SSLError:
                self.last_word()
                raise
        self.connection.sendall(self.outgoing.read())

    def last_word(self, unsent: bytes = b"") -> None:
        """The alert that tells the other side what is wrong, if there is room for it."""
        with contextlib.suppress(OSError):
            self.connection.send(unsent + self.outgoing.read())


def new_channel(connection: socket.socket, context: ssl.SSLContext, server_side: bool) -> Channel:
    """Before the handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=server_side)
    return Channel(connection, tls, incoming, outgoing)


class Handshake:
    """One side of a handshake on the running event loop; nothing in it waits.

    Ends with one call of `on_done` with the channel, or of `on_failed` with the reason and what TLS said; in
    that case the connection is closed.
    """

    def __init__(
        self,
        connection: socket.socket,
        identity: Identity,
        context: ssl.SSLContext,
        server_side: bool,
        on_done: Callable[["Handshake", Channel], None],
        on_failed: Callable[["Handshake", Refusal, Exception | None], None],
    ) -> None:
        self.connection = connection
        self.address = address_of(connection)
        self.received_bytes = 0
        self._identity = identity
        self._context = context
        self._server_side = server_side
        self._on_done = on_done
        self._on_failed = on_failed
        self._beginning = b""  # fewer bytes of a client than say what it sends
        self._channel: Channel | None = None  # made with the first byte: who sends none costs a socket only
        self._unsent = b""
        self._finished = False
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._fd = connection.fileno()
        self._loop.add_reader(self._fd, self._readable)
        if not server_side:
            self._step()

    def fail(self, refusal: Refusal, error: Exception | None = None) -> None:
        """Ends it, unless it has ended."""
        if self._ended:
            return
        self._leave_loop()
        self.connection.close()
        self._on_failed(self, refusal, error)

    def cancel(self) -> None:
        """Ends it, unless it has ended, without a call."""
        if not self._ended:
            self._leave_loop()
            self.connection.close()

    def _leave_loop(self) -> None:
        self._ended = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)

    def _readable(self) -> None:
        try:
            # What is not read now is the channel's: after the handshake nothing is counted any more.
            data = self.connection.recv(HANDSHAKE_BYTES - self.received_bytes)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.fail(Refusal.LEFT, error)
            return
        if not data:
            self.fail(Refusal.LEFT)
            return
        self.received_bytes += len(data)
        if self._server_side and self._channel is None:
            self._beginning += data
            refusal = _what_is_wrong(self._beginning)
            if refusal is not None:
                self.fail(refusal)
            if refusal is not None or len(self._beginning) < _HELLO_HEAD.size:
                return
            data, self._beginning = self._beginning, b""
        self._step(data)

    def _step(self, data: bytes = b"") -> None:
        if self._channel is None:
            self._channel = new_channel(self.connection, self._context, self._server_side)
        channel = self._channel
        channel.incoming.write(data)
        try:
            channel.tls.do_handshake()
        except ssl.SSLWantReadError:
            if self.received_bytes >= HANDSHAKE_BYTES:
                self.fail(Refusal.TOO_MUCH)
                return
        except ssl.SSLError as error:
            channel.last_word(self._unsent)
            self.fail(refusal_of(error), error)
            return
        else:
            self._finished = True
            # OpenSSL has checked it against the only one it trusts; that is easily lost in a change.
            if not self._identity.shown_by(channel.tls):
                self.fail(Refusal.TOKEN)
                return
        self._flush()

    def _flush(self) -> None:
        channel = self._channel
        assert channel is not None
        if channel.outgoing.pending:
            self._unsent += channel.outgoing.read()
        if self._unsent:
            try:
                self._unsent = self._unsent[self.connection.send(self._unsent) :]
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                self.fail(Refusal.LEFT, error)
                return
        if self._unsent:
            self._loop.add_writer(self._fd, self._flush)
            return
        self._loop.remove_writer(self._fd)
        if self._finished:
            self._leave_loop()
            self._on_done(self, channel)


def _what_is_wrong(data: bytes) -> Refusal | None:
    """From the heads of a client's first record and message (RFC 8446, 5.1 and 4): what they announce.

    OpenSSL makes room for as much as is announced, up to 128 KiB, before it comes.
    """
    if data[0] != _HANDSHAKE:
        return Refusal.NOT_TLS
    if len(data) < _HELLO_HEAD.size:
        return None
    _, major, record_bytes, message, high, low = _HELLO_HEAD.unpack_from(data)
    if major != _MAJOR or message != _CLIENT_HELLO or record_bytes < _HELLO_LEAST:
        return Refusal.NOT_TLS
    return Refusal.TOO_MUCH if (high << 16 | low) > HANDSHAKE_BYTES else None


def refusal_of(error: ssl.SSLError) -> Refusal:
    """What a failed handshake means."""
    if isinstance(error, ssl.SSLCertVerificationError) or error.reason in _OF_THE_CERTIFICATE:
        return Refusal.TOKEN
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return Refusal.LEFT
    if error.reason in _OF_THE_PURPOSE:
        return Refusal.PURPOSE
    return Refusal.NOT_TLS


# Names in OpenSSL, of the alert that came or of what was found.
_OF_THE_CERTIFICATE = {
    "TLSV1_ALERT_UNKNOWN_CA",
    "TLSV1_ALERT_DECRYPT_ERROR",
    "SSLV3_ALERT_BAD_CERTIFICATE",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE",
    "CERTIFICATE_VERIFY_FAILED",
    "BAD_SIGNATURE",
}
_OF_THE_PURPOSE = {"TLSV1_ALERT_NO_APPLICATION_PROTOCOL", "NO_APPLICATION_PROTOCOL"}


def shut(connection: socket.socket) -> None:
    """Breaks it, so that a thread that waits for it ends; that thread closes it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def address_of(connection: socket.socket) -> str:
    """The other side's "host:port", or "" when it has left."""
    try:
        peer = connection.getpeername()
    except OSError:
        return ""
    host, port = peer[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
