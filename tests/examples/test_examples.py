"""Each example runs as a user runs it, in a process of its own, and its checks of itself pass."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ray.session.found import find_sessions
from ray.testing import LocalCluster
from tests.api.programs import wait_for

AT_WORK_S = 60.0  # for an example to have its tasks on all nodes
EXAMPLES = Path(__file__).parents[2] / "examples"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def run_example(name: str, *flags: str, timeout_s: float = 100) -> str:
    """Standard output of a run that must end with status 0."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *flags],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{name} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_main_job(tmp_path: Path) -> None:
    """Fewer trials, and no floor for the speed-up: other tests may share the machine's cores."""
    output = run_example("main_job.py", "--trials=10", "--least-speedup=0", f"--out={tmp_path}")
    accuracy = re.search(r"Test accuracy: ([\d.]+)%", output)
    assert accuracy
    assert float(accuracy[1]) >= 97
    assert "Speed-up: " in output
    assert (tmp_path / "timeline.png").read_bytes().startswith(PNG_MAGIC)
    trace = json.loads((tmp_path / "trace.json").read_text())
    events = trace["traceEvents"] if isinstance(trace, dict) else trace
    trials = [event for event in events if event.get("ph") == "X" and "trial" in event["name"]]
    assert len(trials) == 10
    assert all(event["dur"] > 0 for event in trials)


def test_main_job_says_what_was_missed(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            str(EXAMPLES / "main_job.py"),
            "--trials=2",
            "--steps=20",
            "--least-accuracy=1.01",
            "--least-speedup=0",
            f"--out={tmp_path}",
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert re.search(r"Missed: test accuracy [\d.]+% is below 101.00%", done.stdout)


def test_monte_carlo_pi() -> None:
    output = run_example("monte_carlo_pi.py", "--tasks=16", "--points=500000")
    found = re.search(r"pi is about (3\.\d+)", output)
    assert found
    assert float(found[1]) == pytest.approx(3.14159, abs=0.01)


def test_word_count() -> None:
    output = run_example("word_count.py")
    assert re.search(r"[\d,]+ words, [\d,]+ different, in \d+ texts", output)
    assert re.search(r"[\d,]+  the\n", output)


def test_word_count_of_a_folder(tmp_path: Path) -> None:
    for index in range(7):
        (tmp_path / f"{index}.txt").write_text("one fish two fish\n" * (index + 1))
    output = run_example("word_count.py", f"--folder={tmp_path}", "--top=1")
    assert "112 words, 3 different, in 7 texts" in output
    assert re.search(r"56  fish\n", output)


def test_they_run_on_a_cluster(tmp_path: Path) -> None:
    """On one that is there, by its address: a script of its own starts nothing then."""
    with LocalCluster(nodes=2, num_cpus=1) as cluster:
        where = f"--redis-address={cluster.address}"
        assert "pi is about 3.1" in run_example("monte_carlo_pi.py", where, "--tasks=8", "--points=100000")
        assert " words, " in run_example("word_count.py", where)
        assert "100 numbers tested, " in run_example("five_in_flight.py", where, "--tasks=100")
        few = ("--trials=4", "--steps=60", "--least-accuracy=0.1", "--least-speedup=0")
        assert "Test accuracy: " in run_example("main_job.py", where, *few, f"--out={tmp_path}")


def test_a_node_that_is_killed_in_the_middle_changes_no_answer() -> None:
    work = ("--tasks=60", "--points=2000000")
    alone = run_example("monte_carlo_pi.py", *work).splitlines()[0]
    with LocalCluster(nodes=3, num_cpus=1) as cluster:
        killed = cluster.nodes[1]
        (arena,) = [each.arena for each in find_sessions() if each.record.node_id == killed.node_id]
        with ThreadPoolExecutor(1) as thread:
            where = f"--redis-address={cluster.address}"
            running = thread.submit(run_example, "monte_carlo_pi.py", where, *work)

            def is_at_work() -> bool | None:
                stats = arena.stats()
                return (stats["tasks_done"] >= 2 and stats["running_tasks"] > 0) or None

            try:
                assert wait_for(is_at_work, AT_WORK_S)
            finally:
                cluster.kill_node(killed)
            assert running.result().splitlines()[0] == alone


def test_five_in_flight() -> None:
    output = run_example("five_in_flight.py", "--tasks=200")
    assert "200 numbers tested, " in output
    assert "the first 618970019642690137449562141" in output
