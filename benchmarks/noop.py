"""How many tasks and actor calls that do nothing get through, and how soon the first one?

The same work runs under this project and under PyPI's ray, in turns, each in an interpreter and an
environment of its own. Printed: the median of each, and their ratio.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

NUM_CPUS = 2
ONE_AT_A_TIME = 1_000
PIPELINED = 10_000
WARM_UP = 200
ROUND_LIMIT_S = 300

# name: unit, whether more is better
MEASURES = {
    "first result": ("s", False),
    "tasks, one at a time": ("/s", True),
    f"tasks, {PIPELINED:,} pipelined": ("/s", True),
    f"actor calls, {PIPELINED:,} pipelined": ("/s", True),
}


def work() -> dict[str, float]:
    """Runs in a fresh interpreter, under whichever `ray` that one has; the figures in MEASURES' order."""
    began = time.perf_counter()
    import ray

    if hasattr(ray, "_private"):  # PyPI's: without its dashboard and its log to the driver
        ray.init(num_cpus=NUM_CPUS, include_dashboard=False, log_to_driver=False)
    else:
        ray.init(num_cpus=NUM_CPUS)

    @ray.remote
    def noop() -> None:
        pass

    @ray.remote
    class Idle:
        def noop(self) -> None:
            pass

    ray.get(noop.remote())
    first_result_s = time.perf_counter() - began

    def one_at_a_time() -> None:
        for _ in range(ONE_AT_A_TIME):
            ray.get(noop.remote())

    def pipelined() -> None:
        ray.get([noop.remote() for _ in range(PIPELINED)])

    actor = Idle.remote()

    def actor_calls() -> None:
        ray.get([actor.noop.remote() for _ in range(PIPELINED)])

    ray.get([noop.remote() for _ in range(WARM_UP)] + [actor.noop.remote() for _ in range(WARM_UP)])
    figures = [
        first_result_s,
        ONE_AT_A_TIME / seconds(one_at_a_time),
        PIPELINED / seconds(pipelined),
        PIPELINED / seconds(actor_calls),
    ]
    ray.shutdown()
    return dict(zip(MEASURES, figures, strict=True))


def seconds(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure(python: str) -> dict[str, float]:
    """One round in an interpreter of its own. Raises CalledProcessError with what it wrote."""
    command = [python, str(Path(__file__).resolve()), "--work"]
    result = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=ROUND_LIMIT_S,
    )
    figures: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", help="the interpreter of an environment with PyPI's ray")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        print(json.dumps(work()))
        return

    ours: list[dict[str, float]] = []
    peers: list[dict[str, float]] = []
    for _ in range(arguments.rounds):  # in turns: what else the machine does falls on both
        ours.append(measure(sys.executable))
        if arguments.peer:
            peers.append(measure(arguments.peer))

    print(f"{'noop work on ' + str(NUM_CPUS) + ' CPUs':<34}{'raycore':>14}{'PyPI ray':>14}{'ratio':>10}")
    for name, (unit, more_is_better) in MEASURES.items():
        mine = statistics.median(figures[name] for figures in ours)
        line = f"{name:<34}{_number(mine, unit):>14}"
        if peers:
            theirs = statistics.median(figures[name] for figures in peers)
            ratio = mine / theirs if more_is_better else theirs / mine
            line += f"{_number(theirs, unit):>14}{ratio:>8.1f} x"
        print(line)


def _number(value: float, unit: str) -> str:
    return f"{value:,.2f} {unit}" if value < 100 else f"{value:,.0f} {unit}"


if __name__ == "__main__":
    main()
