"""Prints the map from statements to tests at the end of a run, and fails the run if it has holes."""

import pytest

from tests.api.statements import StatementMap


class MapReport:
    """A pytest plugin; made when all API tests are part of a run."""

    def __init__(self, found: StatementMap) -> None:
        self.found = found
        self.problems: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome = "expected failure" if hasattr(report, "wasxfail") else str(report.outcome)
        self.found.ended(test_name(report.nodeid), outcome)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.config.option.collectonly:
            return
        self.problems = self.found.problems()
        if self.problems and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("the API's statements and their tests")
        for line in self.found.lines():
            terminalreporter.write_line(line)
        for problem in self.problems:
            terminalreporter.write_line(f"FAILED map: {problem}", red=True)


def test_name(nodeid: str) -> str:
    """Without the parameters: the map shows a test once."""
    return nodeid.partition("[")[0]
