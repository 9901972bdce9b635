"""Fixtures of the attacks, and the table of their figures that a run prints at its end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.programs import Programs
from tests.chaos.attack import FULL, Attack

FIGURE = "figure"  # of an attack, among what the report of its test carries


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Figures(), "figures")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The watchdog of `Attack` looks after progress; a long attack in its full form is no hang."""
    for item in items:
        if item.path.parent == Path(__file__).parent and FULL:
            item.add_marker(pytest.mark.timeout(1800), append=False)


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


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """Runs drivers in processes of their own; none of theirs may be left two seconds after their end."""
    with Programs(tmp_path) as running:
        yield running


@pytest.fixture
def attack(request: pytest.FixtureRequest, programs: Programs) -> Attack:
    """One attack, named after its test."""
    name = request.node.name.removeprefix("test_")
    own = request.node.user_properties
    return Attack(name, programs, lambda figure: own.append((FIGURE, str(figure))))
