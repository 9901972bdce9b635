"""What workers run for `test_api`: in a module of its own, so that each new one imports no test framework."""

import pickle
import zlib
from typing import Any

import numpy as np

import ray

AGAIN = 1000  # max_retries: as often as it takes


def mixed(*values: Any) -> int:
    """A number that depends on all of them and on their order."""
    return zlib.crc32(b"".join(digest(value) for value in values))


def digest(value: Any) -> bytes:
    if isinstance(value, np.ndarray):
        return value.tobytes() + str(value.dtype).encode()
    return pickle.dumps(value)


class Refusal(Exception):
    """What the tasks here raise on purpose."""


@ray.remote(max_retries=AGAIN)
def mix(*values: Any) -> int:
    return mixed(*values)


@ray.remote(max_retries=AGAIN)
def mix_inside(box: list[ray.ObjectID]) -> int:
    return mixed(*ray.get(box))


@ray.remote(num_return_vals=3, max_retries=AGAIN)
def three(value: Any) -> tuple[int, bytes, Any]:
    return mixed(value), bytes(10_000), value


@ray.remote(max_retries=AGAIN)
def hand_over(value: Any) -> list[ray.ObjectID]:
    """An id of a value that only this task has put."""
    return [ray.put(value)]


@ray.remote(max_retries=AGAIN)
def refuse(text: str) -> None:
    raise Refusal(text)


@ray.remote(checkpoint_interval=2)
class Log:
    def __init__(self, start: Any) -> None:
        self.entries = [mixed(start)]

    def add(self, *values: Any) -> int:
        self.entries.append(mixed(*values))
        return mixed(*self.entries)
