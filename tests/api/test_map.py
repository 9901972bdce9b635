"""The map itself: a hole in it, or a mark that names nothing, must not go unseen."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.api.reporting import MapReport
from tests.api.statements import StatementMap, first_words, load, parse

TEXT = """
## Heading

[one-01]
The first.

[one-02]
import this

this.d
## Parameters:

[two-01]
The last.
"""


def test_parse_keeps_ids_order_and_code() -> None:
    assert parse(TEXT) == {"one-01": "The first.", "one-02": "import this\n\nthis.d", "two-01": "The last."}


def test_parse_refuses_an_id_twice() -> None:
    with pytest.raises(ValueError, match="one-01 stands twice"):
        parse(TEXT + "[one-01]\nAgain.\n")


def test_the_statements_load() -> None:
    statements = load()
    assert len(statements) > 200
    assert all(statements.values())
    assert statements["put-03"] == "x_id = ray.put(1)\nray.get(x_id)  # 1"


def test_a_statement_without_a_test_is_a_problem() -> None:
    found = StatementMap(parse(TEXT))
    found.claim("a.py::test_a", ["one-01", "two-01"])
    found.ended("a.py::test_a", "passed")
    assert found.problems() == ["one-02 has no test: import this this.d"]


def test_a_mark_that_names_nothing_is_a_problem() -> None:
    found = StatementMap(parse(TEXT))
    found.claim("a.py::test_a", ["one-01", "one-02", "two-01", "two-02"])
    assert found.problems() == ["a.py::test_a names 'two-02', and there is no such statement"]


def test_skipped_tests_hold_nothing() -> None:
    found = StatementMap({"one-01": "The first."})
    found.claim("a.py::test_a", ["one-01"])
    found.ended("a.py::test_a", "skipped")
    assert found.problems() == ["one-01 has only tests that were skipped: The first."]
    found.claim("a.py::test_b", ["one-01"])
    found.ended("a.py::test_b", "passed")
    assert found.problems() == []


def test_the_lines_say_how_tests_ended() -> None:
    found = StatementMap({"one-01": "The first.", "one-02": "The second."})
    found.claim("tests/api/test_a.py::test_it", ["one-01"])
    found.claim("tests/api/test_a.py::test_more", ["one-01"])
    found.claim("tests/api/test_a.py::test_it", ["one-01"])
    for outcome in ("passed", "failed", "passed"):  # set-up, call, tear-down
        found.ended("tests/api/test_a.py::test_it", outcome)
    first, second = found.lines()
    assert first.split() == ["one-01", "The", "first.", "a.it", "(failed),", "a.more", "(not", "run)"]
    assert second.split() == ["one-02", "The", "second."]


@pytest.mark.parametrize("claimed", [True, False])
def test_a_hole_fails_the_run(claimed: bool) -> None:
    found = StatementMap({"one-01": "The first."})
    if claimed:
        found.claim("a.py::test_a", ["one-01"])
    report = MapReport(found)
    session: Any = SimpleNamespace(
        config=SimpleNamespace(option=SimpleNamespace(collectonly=False)), exitstatus=pytest.ExitCode.OK
    )
    report.pytest_sessionfinish(session)
    assert session.exitstatus == (pytest.ExitCode.OK if claimed else pytest.ExitCode.TESTS_FAILED)


def test_first_words_are_bounded() -> None:
    assert first_words("• a   b\nc") == "a b c"
    assert len(first_words("word " * 50)) <= 52
