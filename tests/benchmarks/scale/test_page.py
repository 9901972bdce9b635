"""The page has a place for all that the command writes, and the command runs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scale import page
from benchmarks.scale.counters import VARIABLE, Counters, read

ROOT = Path(__file__).parents[3]
LIMIT_S = 110


def test_counters_are_read_by_others(tmp_path: Path) -> None:
    counters = Counters(str(tmp_path))
    counters.sent(50, 30)
    counters.sent(50, 34)
    counters.add("placements")
    (path,) = tmp_path.iterdir()
    found = read(path)
    assert (found["messages"], found["sent.50"], found["placements"], found["frames"]) == (2, 2, 1, 0)
    assert VARIABLE.isupper()


def test_a_page_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="0 places"):
        page.written("# Nothing", {"the run": "x"})


@pytest.mark.slow
def test_the_command_fills_the_page(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks.scale", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    assert "== what breaks first ==" in done.stdout
    results: dict[str, Any] = json.loads(out.read_text())
    real, foretold = (results["small"]["3"][which] for which in ("real", "predicted"))
    # Of what no load of this machine changes much. The head is asked by any `ray status` of this user, too,
    # which another test may run.
    for name in ("idle.node.frame_bytes", "idle.home.frame_bytes"):
        assert foretold[name] == pytest.approx(real[name], rel=0.5)
    assert real["burst.home.placements"] > 0
    assert real["death_ms"] > 200
    assert results["large"]["30"]["busy.tasks"] > 0
    copy = tmp_path / "scale.md"
    copy.write_text(page.PAGE.read_text())
    written = page.publish(results, copy, tmp_path / "scale.svg")
    assert [path.stat().st_size > 1_000 for path in written] == [True, True]
    assert "| nodes | 30 |" in copy.read_text()


def test_the_page_was_made_by_the_command() -> None:
    text = page.PAGE.read_text()
    for name in ("the run", "what each step costs", "three and ten nodes", "beyond", "what breaks first"):
        begin, end = page.BEGIN.format(name), page.END.format(name)
        assert text.count(begin) == text.count(end) == 1
        assert "|" in text.partition(begin)[2].partition(end)[0]
    assert page.PICTURE.name in text
    assert page.PICTURE.read_text().count("<svg") == 1
