"""Puts this project and its peers through the same work, side by side in one run.

Each question is asked of each system in a fresh process of that system's own environment, one right
after the other, so that what else the machine does falls on all of them.  Prints medians and
ratios, writes build/bench/results.json, and ends with status 1 if a floor was missed.
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import environments
import report
from peers import WORKERS
from rich.console import Console

HERE = Path(__file__).parent
RESULTS = environments.FOLDER / "results.json"
LIMIT_S = 600  # of one question to one system


def found(folder: str) -> list[str]:
    names = sorted(path.stem for path in (HERE / folder).glob("*.py"))
    return [name for name in names if not name.startswith("_")]


def ask(python: str, peer: str, question: str, repeats: int) -> dict[str, Any]:
    """Runs the harness; raises RuntimeError with its output if it fails or takes too long."""
    out = environments.FOLDER / f"{peer}.{question}.json"
    out.unlink(missing_ok=True)
    command = [python, str(HERE / "harness.py"), peer, question, str(repeats), str(out)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{question} took {peer} more than {LIMIT_S} s.") from None
    if done.returncode != 0:
        raise RuntimeError(f"{question} failed under {peer}:\n{done.stdout}\n{done.stderr}")
    answer: dict[str, Any] = json.loads(out.read_text())
    return answer


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="measured repeats of each question (5)")
    parser.add_argument("--peers", nargs="*", default=found("peers"), choices=found("peers"), metavar="PEER")
    parser.add_argument(
        "--questions", nargs="*", default=found("questions"), choices=found("questions"), metavar="QUESTION"
    )
    parser.add_argument("--keep-going", action="store_true", help="a missed floor is no failure of the run")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    console = Console()
    sys.path.insert(0, str(HERE))
    environments.FOLDER.mkdir(parents=True, exist_ok=True)
    names = [report.OURS, *(name for name in options.peers if name != report.OURS)]
    peers = {name: importlib.import_module(f"peers.{name}") for name in names}
    questions = {name: importlib.import_module(f"questions.{name}") for name in options.questions}
    pythons = {name: environments.python_of(name, peer) for name, peer in peers.items()}
    answers: report.Answers = {}
    began = time.time()
    for question_name, question in questions.items():
        for peer_name in peers:
            console.print(f"{question.TITLE}: {peers[peer_name].TITLE} ...", style="dim")
            answer = ask(pythons[peer_name], peer_name, question_name, options.repeats)
            answers.setdefault(question_name, {})[peer_name] = answer
    title = f"{WORKERS} workers, {options.repeats} repeats, {os.cpu_count()} CPUs, {platform.platform()}"
    problems = report.missed(questions, answers)
    report.show(console, report.table(peers, questions, answers, title), problems)
    RESULTS.write_text(json.dumps({"when": began, "machine": title, "answers": answers}, indent=1))
    console.print(f"Written to {RESULTS.relative_to(environments.ROOT)}; {time.time() - began:.0f} s.")
    return 1 if problems and not options.keep_going else 0


if __name__ == "__main__":
    sys.exit(main())
