"""The arithmetic of the benchmarks: ratios, floors, and what a missed one says."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The benchmarks' own modules, whose folder is on the path only when they run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import floors
    import questions
    import report

    yield {"floors": floors, "questions": questions, "report": report}
    for name in [name for name in sys.modules if name.split(".")[0] in ("floors", "questions", "report")]:
        del sys.modules[name]


def answer(*figures: float) -> dict[str, Any]:
    return {"figures": list(figures), "version": "1", "python": "3"}


def test_ratio_is_above_one_when_ours_is_better(modules: dict[str, Any]) -> None:
    ratio = modules["floors"].ratio
    assert ratio(300, 10, "/s") == 30
    assert ratio(0.5, 5, "s") == 10


def test_a_floor_against_a_peer(modules: dict[str, Any]) -> None:
    floor = modules["floors"].TimesPeer(30)
    assert floor.reached(3000, {"pypi_ray": 100}, "/s") is True
    assert floor.reached(2999, {"pypi_ray": 100}, "/s") is False
    assert floor.reached(2999, {}, "/s") is None


def test_a_floor_by_itself(modules: dict[str, Any]) -> None:
    floor = modules["floors"].AtMost(0.6)
    assert floor.reached(0.6, {}, "s") is True
    assert floor.reached(0.61, {}, "s") is False


def test_medians_decide_and_missed_floors_are_named(modules: dict[str, Any]) -> None:
    question = SimpleNamespace(TITLE="tasks", UNIT="/s", FLOOR=modules["floors"].TimesPeer(30))
    answers = {"tasks": {"raycore": answer(1, 2900, 9999), "pypi_ray": answer(1, 100, 9999)}}
    assert modules["report"].missed({"tasks": question}, answers) == ["tasks: 2,900 /s is not >= 30 x"]
    answers["tasks"]["raycore"] = answer(1, 3000, 9999)
    assert modules["report"].missed({"tasks": question}, answers) == []


def test_rates_count_what_was_done_in_the_time(
    modules: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that goes on by a second at each look: two rounds of work, and the third look ends it."""
    questions = modules["questions"]
    clock = iter(range(1000))
    monkeypatch.setattr(questions.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(questions, "LEAST_S", 3)
    assert questions.rates(lambda: 10, 4) == [20 / 3] * 4


def test_a_wrong_result_is_no_measurement(modules: dict[str, Any]) -> None:
    modules["questions"].check([1], [1])
    with pytest.raises(ValueError, match=r"wrong result: \[1\], not \[2\]"):
        modules["questions"].check([1], [2])


def test_every_question_and_peer_has_what_it_must(modules: dict[str, Any]) -> None:
    import importlib

    for path in (BENCHMARKS / "questions").glob("[a-z]*.py"):
        question = importlib.import_module(f"questions.{path.stem}")
        assert question.__doc__.endswith("?")
        assert question.UNIT in ("/s", "s")
        assert question.TITLE
        assert callable(question.measure)
        assert hasattr(question, "FLOOR")
