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
from tests.wire.damage import damaged
from tests.wire.running import FULL, times
from tests.wire.samples import SAMPLES

PEAK_BYTES = 20 << 20  # one frame's bound, and something for what is made of it


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
