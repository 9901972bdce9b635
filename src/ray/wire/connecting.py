"""Connecting to another node: its name looked up, TCP, the handshake, and errors that say what was found."""

import asyncio
import errno
import os
import socket
import ssl
import time

from ray.errors import PeerUnreachableError, RayConnectionError, WrongTokenError
from ray.wire import relay
from ray.wire.channel import Channel, Handshake, Refusal, new_channel, refusal_of
from ray.wire.identity import LINK, RELAY, Identity
from ray.wire.link import Link, greet
from ray.wire.messages import Hello

CONNECT_S = 10.0
# Keepalive, for what may be silent for long: a machine that is gone is noticed after 5 + 3 * 2 seconds.
_KEEPALIVE_IDLE_S, _KEEPALIVE_INTERVAL_S, _KEEPALIVE_PROBES = 5, 2, 3

_Found = tuple[socket.AddressFamily, tuple[object, ...]]


async def connect(
    address: str, identity: Identity, hello: Hello, timeout_s: float = CONNECT_S, source: str = ""
) -> Link:
    """A link to the node that listens at "host:port"; the caller is to call its `begin`.

    `source` is the address of this machine to connect from; "": any.

    Names are looked up anew each time. Raises, all of them RayConnectionError: PeerUnreachableError when
    nothing or something else answers there, WrongTokenError when it is a node of another token,
    IncompatiblePeerError when it speaks another protocol.
    """
    deadline = time.monotonic() + timeout_s
    channel = await open_channel(address, identity, LINK, timeout_s, source)
    return await greet(channel, hello, max(0.0, deadline - time.monotonic()))


async def open_channel(
    address: str, identity: Identity, protocol: str, timeout_s: float = CONNECT_S, source: str = ""
) -> Channel:
    """A non-blocking channel to a node, for that purpose; the caller closes it. Raises as `connect` does.

    `address` may be one of `ray.wire.relay`.
    """
    node, _, way = address.rpartition("@")
    if not node:
        return await _open_direct(address, identity, protocol, timeout_s, source)
    channel = await _open_direct(way, identity, RELAY, timeout_s, source)
    try:
        async with asyncio.timeout(timeout_s):
            channel.encrypt(memoryview(relay.question(node, protocol)))
            await asyncio.get_running_loop().sock_sendall(channel.connection, channel.outgoing.read())
            answer = await relay.read_exactly(channel, len(relay.OPENED))
    except (OSError, TimeoutError):
        answer = relay.REFUSED
    except BaseException:
        channel.close()
        raise
    return _around(channel, address, answer)


async def _open_direct(
    address: str, identity: Identity, protocol: str, timeout_s: float, source: str
) -> Channel:
    host, port = split_address(address)
    try:
        async with asyncio.timeout(timeout_s):
            found = _literal(host, port) or await _looked_up(host, port)
            channel = await _first_to_answer(address, found, identity, protocol, timeout_s, source)
    except TimeoutError:
        raise PeerUnreachableError(address, f"no answer in {timeout_s:g} s") from None
    except OSError as error:
        if isinstance(error, RayConnectionError):
            raise
        raise _unreachable(address, error) from None
    return _for_purpose(channel, address, protocol)


def open_channel_waiting(
    address: str, identity: Identity, protocol: str, timeout_s: float = CONNECT_S, source: str = ""
) -> Channel:
    """As `open_channel`, for a thread: it blocks, and so does the channel, `timeout_s` at each step."""
    node, _, way = address.rpartition("@")
    if not node:
        return _open_direct_waiting(address, identity, protocol, timeout_s, source)
    channel = _open_direct_waiting(way, identity, RELAY, timeout_s, source)
    answer = bytearray(len(relay.OPENED))
    try:
        channel.write(relay.question(node, protocol))
        channel.read_into(memoryview(answer))
    except OSError:
        answer[:] = relay.REFUSED
    return _around(channel, address, bytes(answer))


def _around(channel: Channel, address: str, answer: bytes) -> Channel:
    if answer != relay.OPENED:
        channel.close()
        raise PeerUnreachableError(address, "the node in between does not reach it either")
    channel.address = address
    return channel


def _open_direct_waiting(
    address: str, identity: Identity, protocol: str, timeout_s: float, source: str
) -> Channel:
    host, port = split_address(address)
    try:
        connection = socket.create_connection((host, port), timeout_s, (source, 0) if source else None)
    except OSError as error:
        raise _unreachable(address, error) from None
    channel = new_channel(_prepared(connection), identity.client_context(protocol), server_side=False)
    try:
        channel.shake_hands()
    except OSError as error:
        connection.close()
        raise _refused(address, error) from None
    if not identity.shown_by(channel.tls):
        connection.close()
        raise WrongTokenError(address)
    return _for_purpose(channel, address, protocol)


def open_socket(
    address: str, identity: Identity, protocol: str, timeout_s: float = CONNECT_S
) -> ssl.SSLSocket:
    """As `open_channel_waiting`, but what comes back is an ordinary TLS socket, for others' libraries.

    Its time-out is `timeout_s`; the caller closes it.
    """
    host, port = split_address(address)
    try:
        plain = socket.create_connection((host, port), timeout_s)
    except OSError as error:
        raise _unreachable(address, error) from None
    try:
        connection = identity.client_context(protocol).wrap_socket(_prepared(plain))
    except OSError as error:
        plain.close()
        raise _refused(address, error) from None
    if not identity.shown_by(connection):
        connection.close()
        raise WrongTokenError(address)
    if connection.selected_alpn_protocol() != protocol:
        connection.close()
        raise _without_purpose(address, protocol)
    return connection


def split_address(address: str) -> tuple[str, int]:
    """Host and port in "host:port" or "[host]:port". Raises PeerUnreachableError when it is neither."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise PeerUnreachableError(address, "an address is HOST:PORT, like head.example.org:6379")
    return host.removeprefix("[").removesuffix("]"), int(port)


def prepare(connection: socket.socket) -> None:
    """What both sides set on a connection: small messages leave at once, and a dead machine is noticed."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)


def _unreachable(address: str, error: OSError) -> PeerUnreachableError:
    return PeerUnreachableError(address, describe(error), error.errno == errno.ECONNREFUSED)


def describe(error: OSError) -> str:
    """What happened, in words for a message."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return f"its name can't be looked up ({error.strerror})"
    if error.errno == errno.ECONNREFUSED:
        return "nothing listens there"
    return error.strerror or str(error)


def _prepared(connection: socket.socket) -> socket.socket:
    prepare(connection)
    return connection


def _literal(host: str, port: int) -> list[_Found]:
    """For an address in digits, which needs no thread to look it up."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return []
    return [(family, address) for family, _, _, _, address in found]


async def _looked_up(host: str, port: int) -> list[_Found]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


async def _first_to_answer(
    address: str, found: list[_Found], identity: Identity, protocol: str, timeout_s: float, source: str
) -> Channel:
    loop = asyncio.get_running_loop()
    last: OSError = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    deadline = loop.time() + timeout_s
    for left, (family, place) in zip(range(len(found), 0, -1), found, strict=True):
        connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            if source:
                connection.bind((source, 0))
            # One that swallows packets leaves time for the others.
            async with asyncio.timeout((deadline - loop.time()) / left):
                await loop.sock_connect(connection, place)
            prepare(connection)
        except OSError as error:
            connection.close()
            last = error
            continue
        except BaseException:
            connection.close()
            raise
        return await _handshake(address, connection, identity, protocol)
    raise last


async def _handshake(address: str, connection: socket.socket, identity: Identity, protocol: str) -> Channel:
    done: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()

    def on_done(_: Handshake, channel: Channel) -> None:
        if done.cancelled():
            channel.close()
        else:
            done.set_result(channel)

    def on_failed(_: Handshake, refusal: Refusal, error: Exception | None) -> None:
        if not done.cancelled():
            done.set_exception(_refusal_error(address, refusal, error))

    context = identity.client_context(protocol)
    handshake = Handshake(connection, identity, context, False, on_done, on_failed)
    try:
        return await done
    except asyncio.CancelledError:
        handshake.cancel()
        if done.done() and not done.cancelled() and done.exception() is None:
            done.result().close()
        raise


def _for_purpose(channel: Channel, address: str, protocol: str) -> Channel:
    channel.address = address
    if channel.protocol != protocol:
        channel.close()
        raise _without_purpose(address, protocol)
    return channel


def _without_purpose(address: str, protocol: str) -> PeerUnreachableError:
    return PeerUnreachableError(address, f"it is a node of this cluster, but not one that serves {protocol}")


def _refused(address: str, error: OSError) -> RayConnectionError:
    if isinstance(error, ssl.SSLError):
        return _refusal_error(address, refusal_of(error), error)
    return _unreachable(address, error)


def _refusal_error(address: str, refusal: Refusal, error: Exception | None) -> RayConnectionError:
    if refusal is Refusal.TOKEN:
        return WrongTokenError(address)
    if refusal is Refusal.NOT_TLS:
        reason = getattr(error, "reason", None) or "no TLS"
        return PeerUnreachableError(address, f"what answers there is no node of a cluster ({reason})")
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return _unreachable(address, error)
    return PeerUnreachableError(address, refusal.value)
