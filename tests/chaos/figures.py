"""The table of the attacks' figures that a run prints at its end."""

import pytest

FIGURE = "figure"  # of an attack, among what the report of its test carries


class Figures:
    """A pytest plugin: they come with the reports of their tests, in whichever process those ran."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.lines += [str(value) for name, value in report.user_properties if name == FIGURE]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.lines:
            terminalreporter.section("figures of the attacks")
            for line in self.lines:
                terminalreporter.line(line)
