"""The users' functions that are run: the same ones in every system, imported by its workers."""

import functools
import hashlib
import importlib
import os
import time
from typing import Any

ARRAY_BYTES = 64 << 20
BUSY_S = 0.5


def noop() -> bytes:
    return b"ok"


def increment(number: int) -> int:
    return number + 1


def total(*numbers: int) -> int:
    return sum(numbers)


def last(array: Any) -> float:
    return float(array[-1])


def hashed(rounds: int) -> str:
    """Plain computing, as long as it is told to."""
    return hashlib.pbkdf2_hmac("sha256", b"raycore", b"benchmark", rounds).hex()


def array() -> Any:
    """Made by the first task of a worker, returned by all."""
    return _made_array()


@functools.cache
def _made_array() -> Any:
    import numpy as np

    return np.arange(ARRAY_BYTES // 8, dtype=np.float64)


def hold(fifo: str) -> None:
    """Blocks until somebody opens the FIFO for writing."""
    os.close(os.open(fifo, os.O_RDONLY))


def arrived(array: Any) -> tuple[float, float, int]:
    """When the array was there, by the machine's clock; what stands last in it; and in which process.

    The process stays busy for a while, so that a second task goes to another.
    """
    moment = time.monotonic()
    found = float(array[-1])
    time.sleep(BUSY_S)
    return moment, found, os.getpid()


def spin(seconds: float) -> int:
    """Plain computing, for so much time of a processor; returns the process that did it."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
    return os.getpid()


def fan_out(peer_name: str, count: int) -> int:
    """Runs so many tasks and waits for them; returns how many gave the right result."""
    with importlib.import_module(f"peers.{peer_name}").inside() as system:
        task = system.remote(noop)
        return sum(each == b"ok" for each in system.get([task.remote() for _ in range(count)]))


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    def count(self) -> int:
        self.calls += 1
        return self.calls
