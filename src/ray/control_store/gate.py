"""A door on loopback to an operator's control store, in the place of a server of our own.

Whoever shows the session's password is joined with the operator's server, where the gate has logged in. So
only this process, and the keeper that starts it, know the operator's password; everybody else speaks to a
control store as always. It looks at the first commands of a connection, and when one has shown the
password it passes on all that follows.

It runs in a keeper's bare interpreter, and imports only the standard library.
"""

import asyncio
import hmac
import ssl
import sys

from ray.control_store.url import StoreUrl

LOGIN_BYTES = 4096  # of a first command
LOGIN_S = 5.0
LOGIN_TRIES = 8  # commands that are refused, until the connection is
CONNECT_S = 2.0
PIECE_BYTES = 64 << 10
OK = b"+OK\r\n"
NOT_LOGGED_IN = b"-NOAUTH Authentication required.\r\n"
WRONG_PASSWORD = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"


def run(host: str, port: int, password: str, url: StoreUrl) -> None:
    """Until the process is ended. Raises OSError when the port is taken."""
    asyncio.run(Gate(password, url).serve(host, port))


class DamagedError(Exception):
    """What came is no command."""


class RefusedError(Exception):
    """The operator's server does not let the gate in."""


class Gate:
    def __init__(self, password: str, url: StoreUrl) -> None:
        self.password = password.encode()
        self.url = url
        self.tls = ssl.create_default_context() if url.has_tls else None
        self._said = ""

    async def serve(self, host: str, port: int) -> None:
        server = await asyncio.start_server(self._accept, host, port)
        async with server:
            await server.serve_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(LOGIN_S):
                first = await self._logged_in(reader, writer)
            if first is not None:
                await self._join(first, reader, writer)
        except (DamagedError, OSError, TimeoutError):
            pass  # it has left, or is nobody we know
        finally:
            writer.close()

    async def _logged_in(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[bytes, bytes] | None:
        """What to answer by ourselves, and what to pass on; None for whoever has not logged in."""
        received = b""
        for _ in range(LOGIN_TRIES):
            while (found := first_command(received)) is None:
                if len(received) > LOGIN_BYTES:
                    raise DamagedError
                piece = await reader.read(PIECE_BYTES)
                if not piece:
                    raise DamagedError
                received += piece
            command, received = found
            shown, answer, onward = credentials(command)
            if shown is not None and hmac.compare_digest(shown, self.password):
                return answer, onward + received
            writer.write(NOT_LOGGED_IN if shown is None else WRONG_PASSWORD)
            await writer.drain()
        return None

    async def _join(
        self, first: tuple[bytes, bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                store_reader, store_writer = await self._connect()
        except (OSError, TimeoutError, RefusedError) as error:
            reason = str(error) or type(error).__name__
            self._say(f"the control store at {self.url} does not answer: {reason}")
            writer.write(b"-ERR the operator's control store does not answer\r\n")
            await writer.drain()
            return
        self._said = ""
        answer, onward = first
        writer.write(answer)
        store_writer.write(onward)
        ways = [
            asyncio.create_task(_pass_on(reader, store_writer)),
            asyncio.create_task(_pass_on(store_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            store_writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Its name is looked up anew each time."""
        name = self.url.host if self.tls else None
        reader, writer = await asyncio.open_connection(
            self.url.host, self.url.port, ssl=self.tls, server_hostname=name
        )
        try:
            for command in (self.url.login, ("SELECT", str(self.url.database))):
                if command:
                    writer.write(packed(command))
                    reply = await reader.readline()
                    if reply != OK:
                        raise RefusedError(reply.decode(errors="replace").strip() or "it has hung up")
        except BaseException:
            writer.close()
            raise
        return reader, writer

    def _say(self, text: str) -> None:
        """Once, until it answers again."""
        if text != self._said:
            self._said = text
            sys.stderr.write(f"ray: {text}\n")
            sys.stderr.flush()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(PIECE_BYTES):
        writer.write(piece)
        await writer.drain()


def packed(command: tuple[str, ...]) -> bytes:
    """As an array of strings (https://valkey.io/topics/protocol/)."""
    parts = [part.encode() for part in command]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def first_command(data: bytes) -> tuple[list[bytes], bytes] | None:
    """The first command and what follows it; None while it is not whole. Raises DamagedError."""
    line, end, rest = data.partition(b"\r\n")
    if not end:
        return None
    if not line.startswith(b"*"):
        return line.split(), rest
    words = []
    for _ in range(_number(line, b"*")):
        head, end, rest = rest.partition(b"\r\n")
        if not end:
            return None
        length = _number(head, b"$")
        if len(rest) < length + 2:
            return None
        words.append(rest[:length])
        rest = rest[length + 2 :]
    return words, rest


def _number(line: bytes, mark: bytes) -> int:
    if not (line.startswith(mark) and line[1:].isdigit() and len(line) < 8):
        raise DamagedError
    return int(line[1:])


def credentials(command: list[bytes]) -> tuple[bytes | None, bytes, bytes]:
    """The password that a command shows, if any; what answers it here; and what of it goes on."""
    name = command[0].upper() if command else b""
    if name == b"AUTH" and len(command) in (2, 3):
        return command[-1], OK, b""
    if name == b"HELLO" and len(command) >= 5 and command[2].upper() == b"AUTH":
        # The operator's server answers it, for the user that the gate has logged in.
        hello = ("HELLO", *(part.decode(errors="replace") for part in (command[1], *command[5:])))
        return command[4], b"", packed(hello)
    return None, b"", b""
