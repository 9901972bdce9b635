"""A pipe between accepted connections and a server on this machine: how other nodes reach the head's control
store."""

import asyncio
import socket
import ssl
from collections.abc import Callable

from ray.wire.channel import RECORD_BYTES, Channel

READ_BYTES = 64 << 10
CONNECT_S = 5.0


class PipeHost:
    """Joins accepted channels with a TCP address, for a Listener's purpose `REDIS`.

    Each pipe holds at most some 100 KiB in each direction: a side is read only when the other has taken what
    it sent.
    """

    def __init__(self, host: str, port: int) -> None:
        """`host` is an address in digits."""
        self._place = (host, port)
        self._pipes: set[_Pipe] = set()
        self._connecting: dict[asyncio.Task[None], Channel] = {}

    def accept(self, channel: Channel) -> None:
        """Takes the channel over. When the server does not answer the channel is closed, as by the server."""
        task = asyncio.get_running_loop().create_task(self._join(channel))
        self._connecting[task] = channel
        task.add_done_callback(self._connecting.pop)

    async def close(self) -> None:
        """Ends all pipes."""
        connecting = dict(self._connecting)
        for task in connecting:
            task.cancel()
        await asyncio.gather(*connecting, return_exceptions=True)
        for channel in connecting.values():
            if not any(pipe.channel is channel for pipe in self._pipes):
                channel.close()
        for pipe in list(self._pipes):
            pipe.end()

    async def _join(self, channel: Channel) -> None:
        family = socket.AF_INET6 if ":" in self._place[0] else socket.AF_INET
        server = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().sock_connect(server, self._place)
        except (OSError, TimeoutError):
            server.close()
            channel.close()
            return
        except BaseException:
            server.close()
            channel.close()
            raise
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pipes.add(_Pipe(channel, server, self._pipes.discard))


class _Pipe:
    """One channel and one socket, joined until either ends. On an event loop; nothing waits."""

    def __init__(self, channel: Channel, server: socket.socket, on_end: Callable[["_Pipe"], None]) -> None:
        self.channel = channel
        self._server = server
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._outside, self._inside = channel.connection.fileno(), server.fileno()
        self._to_server = b""
        self._to_channel = b""
        self._ended = False
        self._loop.add_reader(self._outside, self._from_channel)
        self._loop.add_reader(self._inside, self._from_server)
        # What came right behind the handshake is in memory already.
        self._loop.call_soon(self._decrypt)

    def end(self) -> None:
        if self._ended:
            return
        self._ended = True
        for fd in (self._outside, self._inside):
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
        self.channel.close()
        self._server.close()
        self._on_end(self)

    def _received(self, connection: socket.socket) -> bytes:
        """Empty when there is nothing; the end of either side is the end of both."""
        try:
            data = connection.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError:
            data = b""
        if not data:
            self.end()
        return data

    def _from_channel(self) -> None:
        data = self._received(self.channel.connection)
        if data:
            self.channel.incoming.write(data)
            self._decrypt()

    def _decrypt(self) -> None:
        parts = []
        try:
            while not self._ended:
                part = self.channel.tls.read(RECORD_BYTES)
                if not part:
                    self.end()
                parts.append(part)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.end()
        self._to_server += b"".join(parts)
        self._write_to_server()

    def _from_server(self) -> None:
        data = self._received(self._server)
        if data:
            self.channel.encrypt(memoryview(data))
            self._to_channel = self.channel.outgoing.read()
            self._write_to_channel()

    def _write_to_server(self) -> None:
        self._to_server = self._write(
            self._server, self._to_server, self._outside, self._from_channel, self._write_to_server
        )

    def _write_to_channel(self) -> None:
        self._to_channel = self._write(
            self.channel.connection, self._to_channel, self._inside, self._from_server, self._write_to_channel
        )

    def _write(
        self,
        to: socket.socket,
        data: bytes,
        source: int,
        read: Callable[[], None],
        again: Callable[[], None],
    ) -> bytes:
        """Sends what goes, and returns the rest; while there is one, its source is not read."""
        if self._ended:
            return b""
        try:
            data = data[to.send(data) :] if data else data
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.end()
            return b""
        if data:
            self._loop.remove_reader(source)
            self._loop.add_writer(to.fileno(), again)
        else:
            self._loop.remove_writer(to.fileno())
            self._loop.add_reader(source, read)
        return data
