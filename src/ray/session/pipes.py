"""Whole messages through a pipe between a driver and its keeper."""

import os

HEADER_BYTES = 4

# After the spec a driver says single words.
WORD_RECORD = b"r"  # the session's record lies in the arena
WORD_END = b"e"


def send_message(fd: int, data: bytes) -> None:
    """Blocks while the pipe is full. Raises BrokenPipeError when nobody will read it."""
    view = memoryview(len(data).to_bytes(HEADER_BYTES, "little") + data)
    while view:
        view = view[os.write(fd, view) :]


def read_message(fd: int) -> bytes:
    """Blocks for one message; empty at the end of the stream."""
    header = _read(fd, HEADER_BYTES)
    return _read(fd, int.from_bytes(header, "little")) if header else b""


def _read(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = os.read(fd, size - len(data))
        if not part:
            return b""
        data += part
    return data
