"""One question to a control store over a connection that is there already: what is this cluster?"""

import json
import socket
from typing import Any

import hiredis

from ray.control_store import schema

READ_BYTES = 65_536
COMMANDS = 2


class RefusedError(Exception):
    """The server knows another password, or none."""


class AnswerError(Exception):
    """What came back is not the answer of a Redis server."""


def session_of(connection: socket.socket, password: str) -> dict[str, Any]:
    """The session's record without its secrets; empty before the node manager has written it.

    Blocks as long as the connection does. Raises RefusedError, AnswerError, OSError.
    """
    # Inline commands (https://valkey.io/topics/protocol/): the password is hexadecimal.
    connection.sendall(f"AUTH {password}\r\nHGETALL {schema.SESSION}\r\n".encode())
    reader = hiredis.Reader()
    replies: list[Any] = []
    while len(replies) < COMMANDS:
        data = connection.recv(READ_BYTES)
        if not data:
            raise AnswerError("the connection was closed")
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                replies.append(reply)
        except hiredis.ProtocolError as error:
            raise AnswerError(str(error)) from None
    if isinstance(replies[0], hiredis.ReplyError):
        raise RefusedError(str(replies[0]))
    if not isinstance(replies[1], list):
        raise AnswerError(str(replies[1]))
    found = iter(replies[1])
    return {name.decode(): json.loads(text) for name, text in zip(found, found, strict=True)}
