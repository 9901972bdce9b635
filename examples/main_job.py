"""The main job: find a good network for handwritten digits, then train it with a parameter server.

1. A hyper-parameter search: each trial is a task; all share one data set that was put once.
2. The winner's training: an actor holds the weights, several workers send it gradients.
3. The same work again in this process alone, one step after the other, for the comparison.

Leaves a picture and a trace of which process ran what when.  Ends with status 1, and says why, if
the accuracy on images that nobody looked at before, or the speed-up, is below its floor.
"""

import os

# Serial and parallel runs get the same one thread for linear algebra; numpy reads this once, on import.
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from digits import data, network, picture, search, training
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import ray

SEARCH_SEED = 3
MOST_WORKERS = 3  # more of them send gradients of weights that are too old by then
REFRESH_MS = 100


@dataclass(frozen=True)
class Floors:
    accuracy: float
    speedup: float


@dataclass
class Run:
    """What one way of doing the work found, and the seconds it took."""

    scores: list[search.Score]
    weights: data.Floats
    search_s: float
    training_s: float

    @property
    def total_s(self) -> float:
        return self.search_s + self.training_s


def bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def best(scores: list[search.Score]) -> search.Score:
    """The first of the settings with the highest score, so that the order of arrival does not matter."""
    return max(scores, key=lambda score: (score.validation_accuracy, -score.setting.seed))


def run_parallel(
    digits: data.Digits, settings: list[network.Setting], steps: int, workers: int, show: Progress
) -> Run:
    began = time.perf_counter()
    parts = ray.put((digits.train, digits.validation))
    trial = ray.remote(search.trial)
    line = show.add_task("search, parallel", total=len(settings), note="")
    remaining = [trial.remote(setting, parts) for setting in settings]
    scores: list[search.Score] = []
    while remaining:
        ready, remaining = ray.wait(remaining)
        scores += ray.get(ready)
        show.update(line, completed=len(scores), note=f"best {best(scores).validation_accuracy:.2%}")
    searched = time.perf_counter()

    winner = best(scores).setting
    share = steps // workers
    line = show.add_task("training, parallel", total=share * workers, note=f"{workers} workers")
    part = ray.put(data.with_shifts(data.joined(digits.train, digits.validation)))
    server = training.ParameterServer.remote(winner, share * workers, workers)
    going = [training.train_worker.remote(server, worker, winner, part, share) for worker in range(workers)]
    while going:
        done, going = ray.wait(going, num_returns=len(going), timeout=REFRESH_MS)
        ray.get(done)  # raises what a worker raised
        show.update(line, completed=ray.get(server.steps.remote()))
    weights, pushes = ray.get(server.result.remote())
    trained = time.perf_counter()
    shares = " + ".join(f"{pushes[worker]}" for worker in sorted(pushes))
    show.update(line, note=f"{shares} gradients")
    return Run(scores, weights, searched - began, trained - searched)


def run_serially(
    digits: data.Digits, settings: list[network.Setting], steps: int, workers: int, show: Progress
) -> Run:
    began = time.perf_counter()
    line = show.add_task("search, serial", total=len(settings), note="")
    scores: list[search.Score] = []
    for setting in settings:
        scores.append(search.trial(setting, (digits.train, digits.validation)))
        show.update(line, completed=len(scores), note=f"best {best(scores).validation_accuracy:.2%}")
    searched = time.perf_counter()

    share = steps // workers
    line = show.add_task("training, serial", total=1, note="")
    part = data.with_shifts(data.joined(digits.train, digits.validation))
    weights = training.train_serially(best(scores).setting, part, workers, share)
    trained = time.perf_counter()
    show.update(line, completed=1, note=f"{share * workers} gradients")
    return Run(scores, weights, searched - began, trained - searched)


def report(console: Console, parallel: Run, serial: Run, cpus: int) -> None:
    table = Table(title=f"{len(parallel.scores)} trials and the winner's training, {cpus} CPUs")
    for heading in ("", "parallel", "serial", "speed-up"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, ours, theirs in (
        ("search", parallel.search_s, serial.search_s),
        ("training", parallel.training_s, serial.training_s),
        ("together", parallel.total_s, serial.total_s),
    ):
        table.add_row(name, f"{ours:.2f} s", f"{theirs:.2f} s", f"{theirs / ours:.2f} x")
    console.print(table)


def shortfalls(parallel: Run, serial: Run, test_accuracy: float, cpus: int, floors: Floors) -> list[str]:
    missed = []
    scores = [sorted(run.scores, key=lambda score: score.setting.seed) for run in (parallel, serial)]
    if scores[0] != scores[1]:
        missed.append("the parallel and the serial search found different scores for the same settings")
    if test_accuracy < floors.accuracy:
        missed.append(f"test accuracy {test_accuracy:.2%} is below {floors.accuracy:.2%}")
    speedup = serial.total_s / parallel.total_s
    if cpus >= 2 and speedup < floors.speedup:
        missed.append(f"speed-up {speedup:.2f} x is below {floors.speedup:.2f} x on {cpus} CPUs")
    return missed


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=220, help="settings to try (220)")
    parser.add_argument("--steps", type=int, default=2400, help="gradient steps in training (2400)")
    parser.add_argument("--out", type=Path, default=Path("build/main_job"), help="where picture and trace go")
    parser.add_argument("--least-accuracy", type=float, default=0.97, help="floor of test accuracy (0.97)")
    parser.add_argument("--least-speedup", type=float, default=1.7, help="floor of the speed-up (1.7)")
    parser.add_argument("--redis-address", help="run on the cluster that is there (a session of its own)")
    return parser.parse_args()


def main() -> int:
    began = time.perf_counter()
    options = arguments()
    console = Console()
    digits = data.load()
    settings = search.draw_settings(options.trials, SEARCH_SEED)
    cpus = len(os.sched_getaffinity(0))
    workers = min(max(cpus, 2), MOST_WORKERS)
    options.out.mkdir(parents=True, exist_ok=True)
    trace, image = options.out / "trace.json", options.out / "timeline.png"

    if options.redis_address:
        ray.init(redis_address=options.redis_address)
    else:
        ray.init(num_cpus=cpus)
    with bar(console) as show:
        parallel = run_parallel(digits, settings, options.steps, workers, show)
        ray.timeline(str(trace))
        ray.shutdown()
        serial = run_serially(digits, settings, options.steps, workers, show)

    winner = best(parallel.scores).setting
    test_accuracy = network.accuracy(parallel.weights, digits.test, winner)
    speedup = serial.total_s / parallel.total_s
    title = f"Main job: {options.trials} trials, then training; {speedup:.2f} x"
    picture.draw(picture.read_trace(trace), image, title)

    report(console, parallel, serial, cpus)
    console.print(f"Winner: {winner}")
    console.print(f"Test accuracy: {test_accuracy:.2%} of {len(digits.test.images)} images never used before")
    console.print(f"Speed-up: {speedup:.2f} x the same work done serially")
    console.print(f"Picture: {image}   trace for https://ui.perfetto.dev: {trace}", soft_wrap=True)
    console.print(f"Done in {time.perf_counter() - began:.1f} s.")
    floors = Floors(options.least_accuracy, options.least_speedup)
    missed = shortfalls(parallel, serial, test_accuracy, cpus, floors)
    for line in missed:
        console.print(f"[bold red]Missed:[/] {line}.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
