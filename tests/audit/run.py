"""The audit of a whole test run: the file that audited processes write, and what is made of it at the end."""

import importlib.util
import os
import tempfile
from pathlib import Path

import pytest

from tests.audit.hook import BEGUN, FOUND

FOLDER = Path(__file__).parent
SITE = FOLDER / "site"
SHOWN = 20  # of the stacks found


class Audit:
    """A pytest plugin: what keepers, node managers and templates unpickle makes the run fail."""

    def __init__(self) -> None:
        fd, name = tempfile.mkstemp(prefix="ray-audit-")
        os.close(fd)
        self._file = Path(name)
        spec = importlib.util.spec_from_file_location("sitecustomize", SITE / "sitecustomize.py")
        assert spec is not None
        assert spec.loader is not None
        os.environ["RAY_TEST_AUDIT"] = name
        os.environ["PYTHONPATH"] = os.pathsep.join([str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])])
        # For this process, which was started before its surroundings were changed.
        spec.loader.exec_module(importlib.util.module_from_spec(spec))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if found(self._file) and session.exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        audited = sum(line.startswith(BEGUN) for line in lines(self._file))
        unpickled = found(self._file)
        self._file.unlink()
        if unpickled:
            terminalreporter.section("keeper, node manager or template unpickled", red=True)
            for line in unpickled[:SHOWN]:
                terminalreporter.line(line)
        terminalreporter.line(f"audit: {audited} sessions, {len(unpickled)} unpicklings where none may be")


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


def found(file: Path) -> list[str]:
    return [line for line in lines(file) if line.startswith(FOUND)]
