"""Ctrl-C at random moments: a process of its own that sends it, armed by the driver of an attack."""

import gc
import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from typing import IO, Self

# It sends to the whole process group, as a terminal does, and tells when.
_STRIKER = """
import os, signal, struct, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
while armed := sys.stdin.buffer.read(8):
    time.sleep(struct.unpack("<d", armed)[0])
    sent = time.monotonic_ns()
    os.killpg(0, signal.SIGINT)
    sys.stdout.buffer.write(struct.pack("<q", sent))
    sys.stdout.buffer.flush()
"""
PATIENCE_S = 20.0  # an interrupt that has not come by then is lost


class Lost(AssertionError):
    """A Ctrl-C was sent and no KeyboardInterrupt was raised."""


class Striker:
    def __init__(self, seed: int, longest_s: float) -> None:
        self._random = random.Random(seed)
        self._longest_s = longest_s
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", _STRIKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def strike(self, act: Callable[[], object]) -> float:
        """Repeats `act` until a Ctrl-C at a random moment; the seconds from it to the KeyboardInterrupt."""
        delay = self._random.uniform(0, self._longest_s)
        deadline = time.monotonic() + PATIENCE_S
        try:
            self._pipe(self._process.stdin).write(struct.pack("<d", delay))
            self._pipe(self._process.stdin).flush()
            while time.monotonic() < deadline:
                act()
        except KeyboardInterrupt:
            caught = time.monotonic_ns()
        else:
            raise Lost(f"no KeyboardInterrupt within {PATIENCE_S} s")
        (sent,) = struct.unpack("<q", self._pipe(self._process.stdout).read(8))
        return float(caught - sent) / 1e9

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe(self._process.stdin).close()
        self._process.wait()
        self._pipe(self._process.stdout).close()
        gc.collect()
