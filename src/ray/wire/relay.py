"""Connections by way of a third node, for two that can't reach each other.

The third is a member like both, so it is trusted as they are: it ends the encryption of the one connection
and begins that of the other, and looks at nothing. What the two ends of a transfer seal for themselves
(`ray.wire.sealed`) it passes on as it is. Both have an ordinary channel of their purpose.

What is asked is an address of its own form, "NODE@HOST:PORT": the node with this id (hexadecimal), by way of
the one that listens there.
"""

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Awaitable, Callable

from ray.errors import RayConnectionError
from ray.wire.channel import RECORD_BYTES, Channel
from ray.wire.identity import BULK, LINK
from ray.wire.sealed import AGREED, KEYS_BYTES

NODE_BYTES = 20
PURPOSES = (LINK, BULK)
ASKED_S = 5.0  # for a question to come, once the connection is there
MAX_WAYS = 64  # at a time, through one node
READ_BYTES = 64 << 10
OPENED, REFUSED = b"\x01", b"\x00"

_QUESTION = struct.Struct(f">{NODE_BYTES}sB")

# Opens a channel to a node for a purpose. Raises RayConnectionError.
Open = Callable[[bytes, str], Awaitable[Channel]]


def through(way: str, node: bytes) -> str:
    """The address of a node by way of the one that listens at `way`."""
    return f"{node.hex()}@{way}"


def question(node: str, purpose: str) -> bytes:
    """What is said first on a connection for the purpose `RELAY`."""
    return _QUESTION.pack(bytes.fromhex(node), PURPOSES.index(purpose))


class RelayHost:
    """Passes connections on to other nodes, for a Listener's purpose `RELAY`."""

    def __init__(self, open_to: Open) -> None:
        self._open_to = open_to
        self._ways: dict[asyncio.Task[None], Channel] = {}

    def accept(self, channel: Channel) -> None:
        """Takes the channel over."""
        if len(self._ways) >= MAX_WAYS:
            channel.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(channel))
        self._ways[task] = channel
        task.add_done_callback(self._ways.pop)

    async def close(self) -> None:
        """Ends all ways."""
        ways = dict(self._ways)
        for task in ways:
            task.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for channel in ways.values():
            channel.close()  # of a task that was cancelled before it began

    async def _serve(self, channel: Channel) -> None:
        with contextlib.closing(channel):
            try:
                async with asyncio.timeout(ASKED_S):
                    asked = await read_exactly(channel, _QUESTION.size)
                node, purpose = _QUESTION.unpack(asked)
                if purpose >= len(PURPOSES):
                    return
                try:
                    other = await self._open_to(node, PURPOSES[purpose])
                except RayConnectionError:
                    await _write(channel, REFUSED)
                    return
                with contextlib.closing(other):
                    await _write(channel, OPENED)
                    if PURPOSES[purpose] == LINK:
                        await _join(channel, other, _carry)
                    elif await _let_agree(channel, other):
                        await _join(channel, other, _carry_sealed)
            except (OSError, TimeoutError):
                return


async def read_exactly(channel: Channel, count: int) -> bytes:
    """Raises ConnectionResetError when the other side ends before. What comes after stays in `channel`."""
    data = b""
    while len(data) < count:
        part = await _read(channel, count - len(data))
        if not part:
            raise ConnectionResetError("the connection was closed")
        data += part
    return data


async def _let_agree(client: Channel, server: Channel) -> bool:
    """Passes on the last that the two say through TLS. False when the client does not wait for its answer."""
    async with asyncio.timeout(ASKED_S):
        await _write(server, await read_exactly(client, KEYS_BYTES))
        answer = await read_exactly(server, len(AGREED))
    if client.has_more or server.has_more:
        return False
    await _write(client, answer)
    return True


async def _join(one: Channel, other: Channel, carry: Callable[[Channel, Channel], Awaitable[None]]) -> None:
    """Carries bytes both ways until either side ends. Each is read when the other has taken what it sent."""
    tasks = [asyncio.ensure_future(carry(*pair)) for pair in ((one, other), (other, one))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _carry(source: Channel, target: Channel) -> None:
    while data := await _read(source, RECORD_BYTES):
        await _write(target, data)


async def _carry_sealed(source: Channel, target: Channel) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source.connection, READ_BYTES):
        await loop.sock_sendall(target.connection, data)


async def _read(channel: Channel, count: int) -> bytes:
    """Empty when the other side has ended."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return channel.tls.read(count)
        except ssl.SSLWantReadError:
            data = await loop.sock_recv(channel.connection, READ_BYTES)
            if not data:
                return b""
            channel.incoming.write(data)


async def _write(channel: Channel, data: bytes) -> None:
    channel.encrypt(memoryview(data))
    await asyncio.get_running_loop().sock_sendall(channel.connection, channel.outgoing.read())
