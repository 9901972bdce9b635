"""What is asked of each system, one question a file.

A question's file has:
  TITLE    what the table calls it
  UNIT     "/s" (more is better) or "s" (less is better)
  FLOOR    what this project must reach, or None (see `floors`)
  measure  (peer, repeats) -> one figure for each repeat; checks its results, and raises if they are wrong
"""

import time
from collections.abc import Callable

LEAST_S = 0.3  # a repeat goes on for at least this long, so that fast systems are not measured by luck


def rates(work: Callable[[], int], repeats: int) -> list[float]:
    """How many things a second `work` does, which returns how many it did; once unmeasured, to warm up."""
    work()
    figures = []
    for _ in range(repeats):
        done = 0
        began = time.perf_counter()
        while (took := time.perf_counter() - began) < LEAST_S or not done:
            done += work()
        figures.append(done / took)
    return figures


def check(found: object, expected: object) -> None:
    """Not an assertion, which python -O would leave out."""
    if found != expected:
        raise ValueError(f"wrong result: {str(found)[:200]}, not {str(expected)[:200]}")
