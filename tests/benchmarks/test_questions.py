"""How figures are come by: repeats, patience, rates; and that every question and peer has what it must."""

import importlib
from types import SimpleNamespace

import pytest

from tests.benchmarks.conftest import BENCHMARKS


class Clock:
    """Goes on by a second at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_rates_count_what_was_done_in_the_time(
    benchmarks: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rounds of work, and the third look at the clock ends it."""
    questions = benchmarks.questions
    monkeypatch.setattr(questions.time, "perf_counter", Clock())
    monkeypatch.setattr(questions, "LEAST_S", 3)
    assert questions.rates(lambda: 10, questions.Repeats(4, 1e9)) == [20 / 3] * 4


def test_no_repeat_is_begun_that_would_outlast_the_patience(
    benchmarks: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = benchmarks.questions
    clock = Clock()
    monkeypatch.setattr(questions.time, "monotonic", clock)
    said: list[str] = []
    done = []
    for number in questions.Repeats(9, 100, said.append):
        done.append(number)
        clock.now += 30
    assert done == [0, 1, 2]
    assert said[-1] == "no patience for more than 3 repeats"


def test_one_repeat_is_made_whatever_the_patience(benchmarks: SimpleNamespace) -> None:
    assert list(benchmarks.questions.Repeats(3, 0)) == [0]


def test_a_wrong_result_is_no_measurement(benchmarks: SimpleNamespace) -> None:
    benchmarks.questions.check([1], [1])
    with pytest.raises(ValueError, match=r"wrong result: \[1\], not \[2\]"):
        benchmarks.questions.check([1], [2])


def test_every_question_has_what_it_must(benchmarks: SimpleNamespace) -> None:
    peers = benchmarks.peers
    abilities = {value for name, value in vars(peers).items() if name.isupper() and isinstance(value, str)}
    rows = []
    for path in (BENCHMARKS / "questions").glob("[a-z]*.py"):
        question = importlib.import_module(f"questions.{path.stem}")
        assert (question.__doc__ or "").endswith("?")
        assert not question.NEEDS - abilities
        assert callable(question.measure)
        rows += question.ROWS
    assert sorted(benchmarks.questions.ORDER + benchmarks.questions.CLUSTER_ORDER) == sorted(
        path.stem for path in (BENCHMARKS / "questions").glob("[a-z]*.py")
    )
    names = [row.name for row in rows]
    assert len(names) == len(set(names))
    known = {path.stem for path in (BENCHMARKS / "peers").glob("[a-z]*.py")} | {None, benchmarks.bars.BEST}
    assert {bar.peer for row in rows for bar in row.bars} <= known


def test_every_peer_has_what_it_must(benchmarks: SimpleNamespace) -> None:
    for path in (BENCHMARKS / "peers").glob("[a-z]*.py"):
        peer = importlib.import_module(f"peers.{path.stem}")
        for name in ("start", "stop", "mapped", "unordered"):
            assert callable(getattr(peer, name))
        for name, ability in (
            ("inside", "NESTED"),
            ("popped", "WAIT"),
            ("in_chunks", "CHUNKS"),
            ("start_cluster", "NODES"),
        ):
            assert callable(getattr(peer, name, None)) == (getattr(benchmarks.peers, ability) in peer.CAN)
        compile(peer.FIRST_RESULT, path.name, "exec")
        compile(peer.IMPORT, path.name, "exec")
        if peer.LOCK:
            lock = (benchmarks.environments.LOCKS / peer.LOCK).read_text()
            assert all(
                f"\n{package}==" in lock for package in [*peer.PACKAGES, *benchmarks.environments.COMMON]
            )
