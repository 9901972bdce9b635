"""Puts this project and its peers through the same work, side by side in one run.

Each question is asked of each system in a fresh process of that system's own environment, one right
after the other, or repeat by repeat in turns, so that what else the machine does falls on all of them.
Prints medians and ratios, writes build/bench/results.json, and ends with status 1 if a bar was missed.
"""

import argparse
import contextlib
import functools
import importlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import environments
import machine
import publish
import report
from memory import MARK, marked_with
from peers import WORKERS
from questions import CLUSTER_ORDER, ORDER
from questions.scaling import rounds_of
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

HERE = Path(__file__).parent
RESULTS = {name: environments.FOLDER / f"{name}.json" for name in ("results", "cluster")}
LIMIT_S = 900  # of one question to one system
PATIENCE_S = 300  # of its repeats, for a system that is slow
FOR_EVER_S = 1e9
TEN_MS = 0.01
PEERS = ("pypi_ray", "dask", "loky", "pool")
CLUSTER_PEERS = ("pypi_ray", "dask")
WIDTH = 160  # where there is no terminal to ask


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").split("\n")[0])
    names = f"{', '.join(ORDER)}; with --cluster: {', '.join(CLUSTER_ORDER)}"
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"some of: {names}")
    parser.add_argument("--cluster", action="store_true", help="of work between nodes (make bench-cluster)")
    parser.add_argument("--repeats", type=int, default=5, help="measured repeats of each question, odd (5)")
    parser.add_argument("--quick", action="store_true", help="one repeat of each: does everything run?")
    parser.add_argument(
        "--patient",
        action="store_true",
        help=f"all repeats for slow systems, too, whose repeats otherwise end after {PATIENCE_S} s",
    )
    parser.add_argument("--long", action="store_true", help="the long questions as well")
    parser.add_argument("--peers", nargs="*", choices=[report.OURS, *PEERS], metavar="PEER")
    parser.add_argument("--keep-going", action="store_true", help="a missed bar is no failure of the run")
    parser.add_argument("--newest", action="store_true", help="install the newest peers, and lock them")
    parser.add_argument("--last", action="store_true", help="run nothing: show the last run's results")
    parser.add_argument("--publish", action="store_true", help="write table and plot to docs/ as well")
    options = parser.parse_args()
    options.names = CLUSTER_ORDER if options.cluster else ORDER
    options.results = RESULTS["cluster" if options.cluster else "results"]
    if options.peers is None:
        options.peers = CLUSTER_PEERS if options.cluster else PEERS
    if unknown := set(options.questions) - set(options.names):
        parser.error(f"no such question: {', '.join(sorted(unknown))}")
    if options.repeats % 2 == 0:
        parser.error("--repeats must be odd: the middle one is what counts")
    if options.quick:
        options.repeats = 1
    return options


def chosen(options: argparse.Namespace) -> dict[str, Any]:
    """The questions by their names."""
    every = {name: importlib.import_module(f"questions.{name}") for name in options.names}
    if options.questions:
        return {name: question for name, question in every.items() if name in options.questions}
    return {
        name: question
        for name, question in every.items()
        if question.ROWS and (options.long or not hasattr(question, "LONG"))
    }


def left_out(question: Any, name: str, peer: Any, options: argparse.Namespace) -> str:
    """Why the peer is not asked; empty: it is."""
    if hasattr(question, "OURS_ONLY") and name != report.OURS:
        return "not asked"
    if question.NEEDS - peer.CAN:
        return "cannot: " + ", ".join(sorted(question.NEEDS - peer.CAN))
    if not options.patient:
        return str(getattr(question, "LEFT_OUT", {}).get(name, ""))
    return ""


class Asking:
    """Runs the harness; what it leaves behind is ended, and a temporary folder of its own removed."""

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self.rounds = rounds_of(TEN_MS)

    def ask(
        self, python: str, peer: str, question: str, repeats: int, say: Callable[[str], None]
    ) -> dict[str, Any]:
        """Raises RuntimeError with its output if it fails or takes too long."""
        # Not below build/: sockets in it have names of 107 bytes at most.
        with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
            out = Path(folder) / "answer.json"
            environment = {
                **os.environ,
                "PYTHONPATH": f"{HERE}:{environments.ROOT / 'examples'}",
                "TMPDIR": folder,
                "RAYCORE_ROUNDS_OF_10MS": str(self.rounds),
                MARK: uuid.uuid4().hex,
            }
            command = [python, str(HERE / "harness.py"), peer, question]
            command += [str(repeats), str(self.patience_s), str(out)]
            with open(Path(folder) / "errors", "w+") as errors:
                began = time.monotonic()
                code = self._run(command, environment, errors, say)
                if code != 0 or not out.exists():
                    errors.seek(0)
                    why = f"ended with {code} after {time.monotonic() - began:.0f} s"
                    raise RuntimeError(f"{question} of {peer} {why}:\n{errors.read()[-4000:]}")
            answer: dict[str, Any] = json.loads(out.read_text())
            return answer

    def _run(
        self, command: list[str], environment: dict[str, str], errors: Any, say: Callable[[str], None]
    ) -> int:
        """The exit status.  Afterwards nothing of it is left."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        # In a thread: what is left behind may keep the pipe open.
        reader = threading.Thread(target=_follow, args=(process.stdout, say), daemon=True)
        reader.start()
        try:
            return process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            process.kill()
            for pid in marked_with(environment[MARK]):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
            reader.join()
            process.stdout.close()


def turns_of(question: Any, names: list[str], repeats: int) -> list[tuple[str, int]]:
    """Who is asked, one after the other, and for how many repeats at once.

    In turns, each round has an order of its own, by lot, the same in each run: what one system leaves the
    machine in, memory that the host need not look for above all, falls to another one each time.
    """
    if not hasattr(question, "IN_TURNS"):
        return [(name, repeats) for name in names]
    lot = random.Random(0)
    return [(name, 1) for _ in range(repeats) for name in lot.sample(names, len(names))]


def joined(before: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """One answer from those of several turns: the first that failed, if any did or if they are not alike."""
    if "failed" in before or not before:
        return before or answer
    if "failed" in answer:
        return answer
    if before["found"] != answer["found"]:
        return {"failed": f"found {before['found']!r}, then {answer['found']!r}"}
    figures = {row: [*found, *answer["figures"][row]] for row, found in before["figures"].items()}
    return {"figures": figures, "found": before["found"]}


def _follow(lines: IO[str], say: Callable[[str], None]) -> None:
    for line in lines:
        say(line.strip())


def command(given: list[str]) -> str:
    """The line that does this run again."""
    target = "bench-cluster" if "--cluster" in given else "bench"
    rest = [each for each in given if each != "--cluster"]
    return shlex.join(["make", target, *([f"ARGS={shlex.join(rest)}"] if rest else [])])


def collect(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    names = [report.OURS, *(name for name in PEERS if name in options.peers)]
    peers = {name: importlib.import_module(f"peers.{name}") for name in names}
    questions = chosen(options)
    pythons = {name: environments.python_of(name, peer, options.newest) for name, peer in peers.items()}
    asking = Asking(FOR_EVER_S if options.patient else PATIENCE_S)
    results: dict[str, Any] = {
        "command": command(sys.argv[1:]),
        "cluster": options.cluster,
        "when": time.time(),
        "machine": machine.described(),
        "repeats": options.repeats,
        "workers": WORKERS,
        "packages": {name: environments.versions(python) for name, python in pythons.items()},
        "took_s": 0.0,
        "answers": {},
    }
    turns = []
    for question, module in questions.items():
        reasons = {name: left_out(module, name, peers[name], options) for name in names}
        results["answers"][question] = {name: {"left_out": why} for name, why in reasons.items() if why}
        asked = [name for name, why in reasons.items() if not why]
        turns += [(question, *turn) for turn in turns_of(module, asked, options.repeats)]
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        line = progress.add_task("", total=len(turns))

        def told(title: str, text: str) -> None:
            progress.update(line, description=f"{title}: {text}")

        for number, (question, name, repeats) in enumerate(turns):
            title = f"{question}, {peers[name].TITLE}"
            progress.update(line, description=title)
            try:
                answer = asking.ask(pythons[name], name, question, repeats, functools.partial(told, title))
            except RuntimeError as error:
                answer = {"failed": str(error)}
            answers = results["answers"][question]
            answer = answers[name] = joined(answers.get(name, {}), answer)
            results["took_s"] = time.time() - results["when"]
            options.results.write_text(
                json.dumps(results, indent=1)
            )  # now: a run that is broken off is not lost
            progress.advance(line)
            if (question, name) in (turn[:2] for turn in turns[number + 1 :]):
                continue
            console.print(report.line(title, questions[question], answer), style="dim", highlight=False)
    return results


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # leaves nothing behind either
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    environments.FOLDER.mkdir(parents=True, exist_ok=True)
    results = json.loads(options.results.read_text()) if options.last else collect(options, console)
    summary = report.Summary(results)
    report.show(console, summary)
    console.print(f"Results: {options.results.relative_to(environments.ROOT)}; {results['took_s']:.0f} s.")
    if options.publish:
        for path in publish.publish(summary):
            console.print(f"Written: {path.relative_to(environments.ROOT)}")
    return 1 if (summary.missed() or summary.failures()) and not options.keep_going else 0


if __name__ == "__main__":
    sys.exit(main())
