"""One question, asked of a system in a process of its own."""

import statistics
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.mark.parametrize(
    ("peer", "question", "row"), [("raycore", "chain", "chain"), ("pool", "map_in_chunks", "map_in_chunks")]
)
def test_a_question_is_asked_and_answered(
    benchmarks: SimpleNamespace, peer: str, question: str, row: str
) -> None:
    said: list[str] = []
    answer = benchmarks.run.Asking(1, 0).ask(sys.executable, peer, question, said.append)
    assert said == ["repeat 1 of 1"]
    assert statistics.median(answer["figures"][row]) > 100


def test_what_a_system_says_when_it_fails_is_told(benchmarks: SimpleNamespace) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)nothing of raycore ended with 1 .*No module named"):
        benchmarks.run.Asking(1, 0).ask(sys.executable, "raycore", "nothing", print)


def test_what_is_left_behind_is_ended(
    benchmarks: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that starts a process and forgets it."""
    folder = tmp_path / "questions"
    folder.mkdir()
    (folder / "__init__.py").write_text((Path(benchmarks.questions.__file__)).read_text())
    (folder / "forgetful.py").write_text(
        "import subprocess\n"
        "def measure(peer, repeats):\n"
        "    left = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "    return {'pid': [left.pid]}\n"
    )
    harness = tmp_path / "harness.py"
    harness.write_text((benchmarks.run.HERE / "harness.py").read_text())
    (tmp_path / "peers").symlink_to(benchmarks.run.HERE / "peers")
    monkeypatch.setattr(benchmarks.run, "HERE", tmp_path)
    answer = benchmarks.run.Asking(1, 0).ask(sys.executable, "raycore", "forgetful", print)
    (pid,) = answer["figures"]["pid"]
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
