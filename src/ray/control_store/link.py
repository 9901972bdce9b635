"""One connection to a server, for the node manager, which writes a few commands.

The whole client takes longer to import than everything else that a node manager needs, and nothing of the
journal is copied until it is there. The protocol itself is hiredis's.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import hiredis

TIMEOUT_S = 2.0
READ_BYTES = 65_536
Command = tuple[str | bytes | int, ...]


class Refused(Exception):
    """The server answered with an error."""


# What a caller catches to try again.
UNREACHABLE = (Refused, hiredis.ProtocolError, OSError)


class Link:
    """Connects when it is first used, and anew after a failure: nothing is tried twice."""

    def __init__(self, address: str, password: str) -> None:
        """`address` is "ip:port"."""
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._password = password
        self._replies = hiredis.Reader()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, *command: str | bytes | int) -> Any:
        """The reply to one command. Raises one of UNREACHABLE, within two seconds."""
        return (await self._asked([command]))[0]

    async def all_or_nothing(self, commands: Iterable[Command]) -> None:
        """Carries them out in one transaction. Raises one of UNREACHABLE, within two seconds."""
        await self._asked([("MULTI",), *commands, ("EXEC",)])

    async def close(self) -> None:
        """The next command connects again."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    async def _asked(self, commands: list[Command]) -> list[Any]:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if self._writer is None:
                    await self._connect()
                return await self._exchange(commands)
        except BaseException:
            await self.close()  # whatever else comes on this connection belongs to nobody
            raise

    async def _connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self._replies = hiredis.Reader()
        await self._exchange([("AUTH", self._password)])

    async def _exchange(self, commands: list[Command]) -> list[Any]:
        assert self._writer is not None
        # Its stub means tuples of any length, and says one.
        packed = [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type]
        self._writer.write(b"".join(packed))
        await self._writer.drain()
        return [await self._reply() for _ in commands]

    async def _reply(self) -> Any:
        assert self._reader is not None
        while (reply := self._replies.gets()) is False:
            data = await self._reader.read(READ_BYTES)
            if not data:
                raise ConnectionError(f"the server at {self._host}:{self._port} has closed the connection")
            self._replies.feed(data)
        for part in reply if isinstance(reply, list) else [reply]:
            if isinstance(part, hiredis.ReplyError):
                raise Refused(str(part))
        return reply
