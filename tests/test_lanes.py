"""A run in lanes reports what a plain one does, and survives a test that ends its process."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.api.programs import wait_for

ROOT = Path(__file__).parents[1]
SURROUNDINGS = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
CONFTEST = """
import os
import pytest
from tests import lanes

def pytest_addoption(parser):
    lanes.add_options(parser)

def pytest_configure(config):
    lanes.configure(config)
    config.addinivalue_line("markers", "of(run): which of this run's processes this is")

@pytest.fixture(autouse=True)
def written_down(request):
    with open("order", "a") as file:
        print(os.getpid(), request.node.name, file=file)
"""
PASSES = "def test_passes():\n    assert True\n"
# Each waits for the other's file: they end only if they run at the same time.
MEETS = """
import pathlib, time

def test_meets_{own}():
    pathlib.Path("{own}").touch()
    deadline = time.monotonic() + 20
    while not pathlib.Path("{other}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
"""
QUIET = "import pytest\n\n@pytest.mark.quiet\ndef test_quiet():\n    assert True\n"
FAILS = """
import pytest

def test_fails():
    assert 1 == 2

def test_skips():
    pytest.skip("as is right")
"""
DIES = """
import os

def test_before():
    pass

def test_dies():
    os._exit(7)

def test_after():
    pass
"""
HANGS = """
import os, pathlib, time

def test_hangs():
    pathlib.Path("lane").write_text(str(os.getpid()))
    time.sleep({sleep_s})

def test_never():
    pass
"""


def start(folder: Path, files: Mapping[str, str], *options: str) -> subprocess.Popen[str]:
    for name, text in {"conftest.py": CONFTEST, **files}.items():
        (folder / name).write_text(text)
    temporary = folder / ".tmp"  # where pytest looks for no tests
    temporary.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", "--lanes=2", *options],
        cwd=folder,
        env={**os.environ, **SURROUNDINGS, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def outcome(run: subprocess.Popen[str]) -> tuple[str, int]:
    said, _ = run.communicate(timeout=60)
    return said, run.returncode


def order(folder: Path) -> list[list[str]]:
    """Process and name of each test, as they were begun."""
    return [line.split() for line in (folder / "order").read_text().splitlines()]


def test_one_summary_of_what_ran_side_by_side_and_then_alone(tmp_path: Path) -> None:
    files = {
        "test_a.py": QUIET + FAILS,
        "test_b.py": MEETS.format(own="b", other="c"),
        "test_c.py": MEETS.format(own="c", other="b") + PASSES,
    }
    run = start(tmp_path, files)
    said, code = outcome(run)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "FAILED test_a.py::test_fails - assert 1 == 2" in said
    assert "SKIPPED [1] test_a.py:13: as is right" in said
    assert re.search(r"= 1 failed, 4 passed, 1 skipped in", said.splitlines()[-1])
    begun = order(tmp_path)
    assert len({pid for pid, _ in begun}) == 3
    assert begun[-1] == [str(run.pid), "test_quiet"]


def test_a_lane_that_dies_of_a_test_has_failed_it_and_the_rest_is_run(tmp_path: Path) -> None:
    said, code = outcome(start(tmp_path, {"test_a.py": PASSES, "test_b.py": DIES, "test_c.py": PASSES}))
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "its lane ended with status 7" in said
    assert "FAILED test_b.py::test_dies" in said
    assert re.search(r"= 1 failed, 4 passed in", said.splitlines()[-1])
    assert sorted(name for _, name in order(tmp_path)) == sorted(
        ["test_after", "test_before", "test_dies", "test_passes", "test_passes"]
    )


def test_the_first_failure_ends_both_lanes_if_asked_to(tmp_path: Path) -> None:
    files = {"test_a.py": HANGS.format(sleep_s=60), "test_b.py": FAILS}
    began_s = time.monotonic()
    said, code = outcome(start(tmp_path, files, "-x"))
    assert time.monotonic() - began_s < 30
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "FAILED test_b.py::test_fails" in said


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_lanes_end_with_their_run(tmp_path: Path, signum: signal.Signals) -> None:
    run = start(tmp_path, {"test_a.py": HANGS.format(sleep_s=1.5), "test_b.py": PASSES})
    lane = tmp_path / "lane"
    assert wait_for(lambda: (lane.exists() and lane.read_text()) or None, 20.0)
    run.send_signal(signum)
    outcome(run)
    pid = int(lane.read_text())
    assert wait_for(lambda: not os.path.exists(f"/proc/{pid}") or None, 10.0)
    assert "test_never" not in [name for _, name in order(tmp_path)]
