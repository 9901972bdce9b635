"""What a peer may send that has gone wrong: frames that are none, and messages that mean nothing."""

import random
from collections.abc import Sequence
from typing import Any

import msgspec

from ray.wire import messages
from ray.wire.messages import Bye, Message

LENGTH_BYTES = 4
LONG = 60  # entries of a list, at most, that is made longer
NUMBERS = [
    *(-(1 << 63), -(1 << 31), -128, -1, 0, 1, 2, 3, 127, 128, 255, 256, 65_535, 65_536),
    *((1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 53, 1 << 62, (1 << 63) - 1, (1 << 64) - 1),
]
TEXTS = ["", "x", "\0", "a" * 300, "../../etc/passwd", "127.0.0.1:1", "\u00e9\n\x1b[31m"]
ID_BYTES = (16, 20)


def damaged(choose: random.Random, frame: bytes) -> bytes:
    data = bytearray(frame)
    for _ in range(choose.choice((1, 1, 2, 4, 16))):
        place = choose.randrange(LENGTH_BYTES, len(data))
        match choose.randrange(5):
            case 0:
                data[place] = choose.randrange(256)
            case 1:
                data[place] ^= 1 << choose.randrange(8)
            case 2:
                data[place:place] = choose.randbytes(choose.randrange(1, 9))
            case 3:
                del data[place : place + choose.randrange(1, 9)]
                data += bytes(LENGTH_BYTES + 1 - len(data)) if len(data) <= LENGTH_BYTES else b""
            case 4:  # the head of something long: array, map, bytes, text, extension
                data[place : place + 5] = choose.choice((b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9")) + (
                    choose.choice((b"\xff\xff\xff\xff", b"\x00\xff\xff\xff", b"\x00\x00\x00\xff"))
                )
    if choose.random() < 0.9:  # else the length lies
        data[:LENGTH_BYTES] = (len(data) - LENGTH_BYTES).to_bytes(LENGTH_BYTES, "big")
    else:
        data[choose.randrange(LENGTH_BYTES)] ^= 1 << choose.randrange(8)
    return bytes(data)


def nonsense(choose: random.Random, samples: Sequence[Message], ids: Sequence[bytes]) -> bytes:
    """A frame with one message that any reader takes for good, and that means nothing: made of one of these
    samples, with these ids, of 16 bytes and of 20, in it."""
    while True:
        fields = msgspec.msgpack.decode(msgspec.msgpack.encode(choose.choice(samples)))
        for _ in range(choose.choice((1, 1, 2, 3, 6))):
            if len(fields) > 1:
                place = choose.randrange(1, len(fields))  # the first says which message it is
                fields[place] = _changed(choose, fields[place], ids)
        body = msgspec.msgpack.encode([fields])
        try:
            (read,) = messages.decode(body)
        except (messages.DamagedMessageError, UnicodeDecodeError):
            continue
        if not isinstance(read, Bye):
            return len(body).to_bytes(LENGTH_BYTES, "big") + body


def _changed(choose: random.Random, value: Any, ids: Sequence[bytes]) -> Any:
    """Another value, mostly of the same type."""
    match value:
        case bool():
            return not value
        case int():
            other = value + choose.choice((-1, 1, 7))
            return (
                choose.choice(NUMBERS)
                if choose.random() < 0.5
                else max(-(1 << 63), min((1 << 64) - 1, other))
            )
        case bytes() if len(value) in ID_BYTES and choose.random() < 0.9:
            return choose.choice([each for each in ids if len(each) == len(value)])
        case bytes():
            return choose.choice((b"", b"x", choose.randbytes(choose.randrange(64)), bytes(5_000)))
        case str():
            return choose.choice(TEXTS)
        case list():
            return _changed_list(choose, value, ids)
        case dict():
            return {key: _changed(choose, each, ids) for key, each in value.items()}
        case _:
            return choose.choice((None, 0, b"", []))


def _changed_list(choose: random.Random, value: list[Any], ids: Sequence[bytes]) -> list[Any]:
    if not value or len(value) > LONG:
        return value[:3]
    which = choose.randrange(4)
    if which == 0:
        return value * choose.choice((0, 2, 50))
    place = choose.randrange(len(value))
    other = _changed(choose, value[place], ids)
    return [other, *value] if which == 1 else [*value[:place], other, *value[place + 1 :]]
