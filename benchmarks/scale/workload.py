"""What the measured and the predicted clusters do: the same, in seconds and in virtual seconds."""

import os
import pickle
import time
from dataclasses import dataclass

from ray.serialization.functions import pickle_function

TOKEN_LETTERS = 32
GOLDEN = 0.6180339887


@dataclass(frozen=True, slots=True)
class Plan:
    """One experiment."""

    nodes: int
    cpus: int = 1
    idle_s: float = 10.0
    tasks_a_cpu: int = 24
    task_s: float = 0.25
    bursts: int = 3  # which nodes the last tasks go to is a matter of chance
    deaths: int = 3

    @property
    def tasks(self) -> int:
        return self.nodes * self.cpus * self.tasks_a_cpu

    def task_lengths_s(self) -> list[float]:
        """Not all the same: tasks that end together are a lucky case."""
        return [self.task_s * spread(number) for number in range(self.tasks)]


def spread(number: int) -> float:
    """Half to one and a half, evenly, and never two alike one after the other."""
    return 0.5 + number * GOLDEN % 1


def mean(runs: list[dict[str, float]]) -> dict[str, float]:
    """Of each figure; one that a run does not have is 0 there."""
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: sum(run.get(name, 0.0) for run in runs) / len(runs) for name in names}


def nap(seconds: float) -> tuple[str, float]:
    """A task: which node it ran on, and when it began."""
    began = time.time()
    time.sleep(seconds)
    return os.environ["RAY_SESSION"], began


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of one of its tasks, on the wire."""

    payload: int
    function: int
    result: int


def sizes() -> Sizes:
    return Sizes(
        len(pickle.dumps((0.25,), 5)),
        len(pickle_function(nap)),
        len(pickle.dumps(("0" * TOKEN_LETTERS, time.time()), 5)),
    )
