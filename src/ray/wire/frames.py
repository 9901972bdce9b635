"""Frames: how messages lie one behind the other in a stream of bytes.

A frame is four bytes with the length of what follows (big-endian, at most 16 MiB), then a MessagePack list of
messages.
"""

import struct
from collections.abc import Callable
from typing import TypeVar

from ray.wire import messages
from ray.wire.messages import MAX_FRAME_BYTES, DamagedMessageError, Message, Opening, Packed

BATCH_BYTES = 1 << 20  # a frame of this size or more is closed, and the next message begins another
T = TypeVar("T")

_LENGTH = struct.Struct(">I")
# The length, and the list's own head in its long form, so that the number can be filled in when it is known.
_HEAD = struct.Struct(">IBI")
_ARRAY_32 = 0xDD
_BLANK_HEAD = bytes(_HEAD.size)
MAX_MESSAGE_BYTES = MAX_FRAME_BYTES - (_HEAD.size - _LENGTH.size)


class DamagedFrameError(ValueError):
    """What came can't be a frame of this protocol; nothing of that frame is acted upon."""


class MessageTooLargeError(ValueError):
    """The message does not fit into a frame, and was not taken. Its lists must be sent in parts."""


class FrameWriter:
    """Puts messages into as few frames as their sizes allow."""

    def __init__(self) -> None:
        self._done: list[bytearray] = []
        self._done_bytes = 0
        self._open = bytearray()
        self._count = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of all frames that were not taken yet."""
        return self._done_bytes + len(self._open)

    def add(self, message: Message | Packed) -> None:
        """Appends a message.

        Raises MessageTooLargeError when it alone is more than a frame may hold, TypeError when a field is of
        a type that has no form; then nothing was appended.
        """
        frame = self._open
        before = len(frame)
        if not before:
            frame += _BLANK_HEAD
        start = len(frame)
        try:
            messages.append(message, frame)
            if len(frame) - start > MAX_MESSAGE_BYTES:
                raise MessageTooLargeError(
                    f"a {type(message).__name__} has {len(frame) - start:,} bytes, and a frame holds at most "
                    f"{MAX_MESSAGE_BYTES:,}; send what it lists in parts"
                )
        except BaseException:
            del frame[before:]
            raise
        if len(frame) - _LENGTH.size > MAX_FRAME_BYTES:
            last = frame[start:]
            del frame[start:]
            self._close()
            self._open += _BLANK_HEAD + last
        self._count += 1
        if len(self._open) >= BATCH_BYTES:
            self._close()

    def take(self) -> list[bytearray]:
        """All frames that are held, whole; the caller's from now on."""
        if self._count:
            self._close()
        done, self._done, self._done_bytes = self._done, [], 0
        return done

    def _close(self) -> None:
        frame = self._open
        _HEAD.pack_into(frame, 0, len(frame) - _LENGTH.size, _ARRAY_32, self._count)
        self._done.append(frame)
        self._done_bytes += len(frame)
        self._open, self._count = bytearray(), 0


class FrameReader:
    """Finds frames in a stream of bytes. Holds at most one unfinished frame, and only what has come of it."""

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def held_bytes(self) -> int:
        return len(self._held)

    def feed(self, data: bytes) -> None:
        """More of the stream."""
        self._held += data

    def opening(self) -> Opening | None:
        """Protocol and release in the first frame, which stays; None before it is all there.

        Raises DamagedFrameError.
        """
        end = self._end_of_frame()
        return None if end is None else self._decode(messages.decode_opening, end)

    def next_frame(self) -> list[Message] | None:
        """The messages of the next frame; None when it is not all there. Raises DamagedFrameError."""
        end = self._end_of_frame() if self._held else None
        if end is None:
            return None
        found = self._decode(messages.decode, end)
        del self._held[:end]
        return found

    def _end_of_frame(self) -> int | None:
        if len(self._held) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._held)
        if length > MAX_FRAME_BYTES:
            raise DamagedFrameError(
                f"a frame of {length:,} bytes is announced; {MAX_FRAME_BYTES:,} are allowed"
            )
        end: int = _LENGTH.size + length
        return end if len(self._held) >= end else None

    def _decode(self, decode: Callable[[memoryview], T], end: int) -> T:
        # Released before the bytes are cut: a bytearray with a view on it keeps its length.
        with memoryview(self._held) as view, view[_LENGTH.size : end] as body:
            try:
                return decode(body)
            except (DamagedMessageError, UnicodeDecodeError, RecursionError, MemoryError) as error:
                raise DamagedFrameError(f"a frame of {end:,} bytes is damaged: {error}") from None
