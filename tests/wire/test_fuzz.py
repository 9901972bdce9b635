"""Damaged frames: whatever comes, it is refused or understood, and costs no more than it is long.

`make chaos` runs a million.
"""

import random
import sys
import tracemalloc
from typing import get_args

import pytest

from ray.wire import messages
from ray.wire.frames import DamagedFrameError, FrameReader, FrameWriter
from tests.wire.running import FULL, times
from tests.wire.samples import SAMPLES

LENGTH_BYTES = 4
PEAK_BYTES = 20 << 20  # one frame's bound, and something for what is made of it


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


@pytest.mark.timeout(3600 if FULL else 120)
def test_damaged_frames() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    writer, frames = FrameWriter(), []
    for sample in SAMPLES:
        writer.add(sample)
        frames += map(bytes, writer.take())
    for sample in SAMPLES:
        writer.add(sample)
    frames += map(bytes, writer.take())
    kinds = set(get_args(messages.AnyMessage))
    pickles = set(sys.modules) & {"_pickle"}
    refused = 0
    tracemalloc.start()
    try:
        for _ in range(times(1_000_000, 5_000)):
            reader = FrameReader()
            reader.feed(damaged(choose, choose.choice(frames)))
            try:
                reader.opening()
            except DamagedFrameError:
                refused += 1
            try:
                while (found := reader.next_frame()) is not None:
                    assert {type(message) for message in found} <= kinds
            except DamagedFrameError:
                refused += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused > 1000
    assert peak < PEAK_BYTES
    assert set(sys.modules) & {"_pickle"} == pickles
