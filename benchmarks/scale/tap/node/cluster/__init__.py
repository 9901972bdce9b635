"""Stands before `ray.node.cluster`: counts what goes out of a node manager, then is that package."""

import os
import sys
import time
from pathlib import Path
from typing import Any

from ray.policy.cluster import placement
from ray.wire import frames, messages

sys.path.append(str(Path(__file__).parents[5]))
from benchmarks.scale.counters import VARIABLE, Counters

counters = Counters(os.environ[VARIABLE])
__path__ = [os.path.join(folder, "node", "cluster") for folder in sys.modules["ray"].__path__[1:]]

append = messages.append
take = frames.FrameWriter.take
place = placement.place


def counted_append(message: messages.Message | messages.Packed, to: bytearray) -> None:
    before = len(to)
    append(message, to)
    if isinstance(message, messages.Packed):
        kind: Any = bytes(message)[1]  # behind the list's head
    else:
        kind = type(message).__struct_config__.tag
    counters.sent(kind, len(to) - before)


def counted_take(writer: frames.FrameWriter) -> list[bytearray]:
    taken = take(writer)
    counters.add("frames", len(taken))
    counters.add("frame_bytes", sum(map(len, taken)))
    return taken


def counted_place(*arguments: Any) -> placement.Placement:
    began = time.perf_counter_ns()
    found = place(*arguments)
    counters.add("placements")
    counters.add("placement_ns", time.perf_counter_ns() - began)
    return found


# Before the package's modules are imported, which take `place` by its name.
messages.append = counted_append
frames.FrameWriter.take = counted_take  # type: ignore[method-assign]
placement.place = counted_place
