"""What is asked of each system, one question a file.

A question's file has:
  ROWS      the rows of the table that it fills (see `bars`); none where this machine can't answer it
  NEEDS     what a system must be able to do (see `peers`)
  measure   (peer, repeats) -> for each row's name, one figure a repeat; checks its results, and raises if
            they are wrong
and perhaps
  OURS_ONLY  asked of this project alone
  GROUP      the table that its rows are in; without it, the main one
  LONG       asked only when it is named, or with --long
  IN_TURNS   asked for one repeat at a time, each system once before the next repeat: where a repeat is a
             whole session, and where what the machine does meanwhile is as much as systems differ by
  LEFT_OUT   peers that are asked only with --patient, and why
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ORDER = (  # in which they are asked and shown
    "sync_tasks",
    "pipelined_tasks",
    "chain",
    "many_arguments",
    "nested_tasks",
    "sync_calls",
    "pipelined_calls",
    "actors_created",
    "small_values",
    "large_array",
    "first_put",
    "large_result",
    "array_to_task",
    "wait_one_by_one",
    "queued_tasks",
    "map_in_chunks",
    "idle",
    "start",
    "map_10ms",
    "main_job",
    "many_workers",
    "scaling",
    "cost_model",
    "ten_million",
)
CLUSTER_ORDER = (  # of `make bench-cluster`
    "remote_tasks",
    "remote_calls",
    "array_between_nodes",
    "burst",
    "node_cost",
    "attached",
)
PROGRAMS = Path(__file__).parents[1] / "programs"
LEAST_S = 0.3  # a repeat goes on for at least this long, so that fast systems are not measured by luck
ENOUGH_S = 0.02  # so long the warming up of a row takes at least


class Repeats:
    """Counts them, says how far it is, and begins none that would go beyond the patience."""

    def __init__(self, count: int, patience_s: float, say: Callable[[str], None] = lambda text: None) -> None:
        self.count = count
        self.patience_s = patience_s
        self.say = say
        self.found = ""  # by a question whose answer must be the same in every system

    def __iter__(self) -> Iterator[int]:
        began = time.monotonic()
        longest = 0.0
        for number in range(self.count):
            start = time.monotonic()
            if number and start - began + longest > self.patience_s:
                self.say(f"no patience for more than {number} repeats")
                return
            self.say(f"repeat {number + 1} of {self.count}")
            yield number
            longest = max(longest, time.monotonic() - start)


def rates(work: Callable[[], int], repeats: Repeats) -> list[float]:
    """How many things a second `work` does, which returns how many it did."""
    figures = []
    for _ in repeats:
        done = 0
        began = time.perf_counter()
        while (took := time.perf_counter() - began) < LEAST_S or not done:
            done += work()
        figures.append(done / took)
    return figures


def times(work: Callable[[], object], repeats: Repeats) -> list[float]:
    """How many seconds `work` takes: in each repeat, the mean over a time that is long enough."""

    def once() -> int:
        work()
        return 1

    return [1 / rate for rate in rates(once, repeats)]


def warm(work: Callable[[], object]) -> None:
    """Once for what is made at first use; again, while that was too short to bring caches up."""
    began = time.perf_counter()
    work()
    while time.perf_counter() - began < ENOUGH_S:
        work()


def from_shell(program: str, peer: Any, repeats: Repeats) -> list[float]:
    """Seconds of a program of its own, start-up and exit included; each run prints the same line."""
    command = [sys.executable, str(PROGRAMS / program), name_of(peer)]
    figures, lines = [], set()
    for _ in repeats:
        began = time.perf_counter()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
        figures.append(time.perf_counter() - began)
        lines.add(done.stdout)
    check(len(lines), 1)
    repeats.found = lines.pop().decode().strip()
    return figures


def check(found: object, expected: object) -> None:
    """Not an assertion, which python -O would leave out."""
    if found != expected:
        raise ValueError(f"wrong result: {str(found)[:200]}, not {str(expected)[:200]}")


def name_of(peer: Any) -> str:
    return str(peer.__name__).rpartition(".")[2]
