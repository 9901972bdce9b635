"""One question, asked of a system in a process of its own."""

import statistics
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.api.programs import wait_for

PATIENCE_S = 10.0


@pytest.mark.parametrize(
    ("peer", "question", "row"), [("raycore", "chain", "chain"), ("pool", "map_in_chunks", "map_in_chunks")]
)
def test_a_question_is_asked_and_answered(
    benchmarks: SimpleNamespace, peer: str, question: str, row: str
) -> None:
    said: list[str] = []
    answer = benchmarks.run.Asking(0).ask(sys.executable, peer, question, 1, said.append)
    assert said == ["repeat 1 of 1"]
    assert statistics.median(answer["figures"][row]) > 100


def test_what_a_system_says_when_it_fails_is_told(benchmarks: SimpleNamespace) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)nothing of raycore ended with 1 .*No module named"):
        benchmarks.run.Asking(0).ask(sys.executable, "raycore", "nothing", 1, print)


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
    answer = benchmarks.run.Asking(0).ask(sys.executable, "raycore", "forgetful", 1, print)
    (pid,) = answer["figures"]["pid"]
    stat = Path(f"/proc/{pid}/stat")

    def has_ended() -> bool:
        try:
            return stat.read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:  # and nobody has it as a child any more
            return True

    # It was killed, and dies when it next has a core.
    assert wait_for(lambda: has_ended() or None, PATIENCE_S)


def test_in_turns_each_system_is_asked_once_a_repeat_and_another_one_begins(
    benchmarks: SimpleNamespace,
) -> None:
    turns_of = benchmarks.run.turns_of
    in_turns = SimpleNamespace(IN_TURNS=True)
    assert turns_of(SimpleNamespace(), ["a", "b"], 5) == [("a", 5), ("b", 5)]
    asked = turns_of(in_turns, ["a", "b", "c"], 20)
    assert {repeats for _, repeats in asked} == {1}
    rounds = ["".join(name for name, _ in asked[i : i + 3]) for i in range(0, len(asked), 3)]
    assert {"".join(sorted(each)) for each in rounds} == {"abc"}
    assert len(set(rounds)) > 3
    assert turns_of(in_turns, ["a", "b", "c"], 20) == asked
    assert turns_of(in_turns, [], 5) == []


def test_answers_of_turns_become_one_and_a_failure_stays(benchmarks: SimpleNamespace) -> None:
    joined = benchmarks.run.joined
    first, second = ({"figures": {"row": [figure]}, "found": "x"} for figure in (1.0, 2.0))
    assert joined({}, first) == first
    assert joined(first, second) == {"figures": {"row": [1.0, 2.0]}, "found": "x"}
    failed = {"failed": "because"}
    assert joined(first, failed) == joined(failed, second) == failed
    assert "then 'y'" in joined(first, {**second, "found": "y"})["failed"]
