"""A run in lanes: processes that take the test files from one another, and one report of all they have run.

With `--lanes=2` pytest starts itself twice more and reports what the two have run as if it had run here.
A file is taken as a whole, so that what a module's tests share is made once; whoever takes it makes an entry
of its name in a folder that all lanes have.  A lane's processes, descriptors and temporary files are its own,
and so is its look for what a test has left behind.  A lane that dies of a test, as pytest-timeout ends one,
has failed that test; what it has not come to is run all the same.

Tests marked `quiet` measure time: they come last, in the process that reports, when no lane is left.
"""

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

END_S = 30.0  # for a lane that is interrupted
LOG_LINES = 60  # shown of a lane that has died
READ_BYTES = 1 << 16


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("lanes", "tests in several processes")
    group.addoption("--lanes", type=int, default=1, help="how many processes run the tests (1: this one)")
    group.addoption("--lane", help="NUMBER,FD,FOLDER: this is a lane, not the run")


def configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "quiet: measures time, so no other test is run beside it")
    if is_lane(config):
        number, fd, folder = config.option.lane.split(",", 2)
        config.pluginmanager.register(Lane(config, int(number), int(fd), Path(folder)), "lane")
    elif config.option.lanes > 1 and not config.option.usepdb and config.option.capture != "no":
        config.pluginmanager.register(Lanes(config), "lanes")


def is_lane(config: pytest.Config) -> bool:
    return bool(config.option.lane)


def is_quiet(item: pytest.Item) -> bool:
    return item.get_closest_marker("quiet") is not None


def file_of(test: str) -> str:
    return test.partition("::")[0]


def run(session: pytest.Session, items: Iterable[pytest.Item]) -> None:
    """As pytest's own loop does."""
    after = iter(items)
    item = next(after, None)
    while item is not None:
        following = next(after, None)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        stop_if_asked_to(session)
        item = following


def stop_if_asked_to(session: pytest.Session) -> None:
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)


class Lanes:
    """The plugin of the run: starts the lanes, reports what they have run, runs what is left."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        files = {file_of(item.nodeid) for item in session.items if not is_quiet(item)}
        count = min(self.config.option.lanes, len(files))
        if session.testsfailed or self.config.option.collectonly or count < 2:
            return None
        folder = Path(tempfile.mkdtemp(prefix="ray-lanes-"))
        started: list[StartedLane] = []
        try:
            for number in range(count):
                started.append(StartedLane(self.config, number, folder))
            self._report(session, started)
            died = [text for lane in started if (text := lane.death())]
        finally:
            for lane in started:
                lane.stop()
            shutil.rmtree(folder)
        begun = {test for lane in started for test in lane.begun}
        run(session, sorted((item for item in session.items if item.nodeid not in begun), key=is_quiet))
        if died:
            raise session.Failed("\n".join(died))
        return True

    def _report(self, session: pytest.Session, lanes: "list[StartedLane]") -> None:
        """Until all lanes have ended."""
        with selectors.DefaultSelector() as selector:
            for lane in lanes:
                selector.register(lane.pipe, selectors.EVENT_READ, lane)
            while selector.get_map():
                for key, _ in selector.select():
                    if not key.data.read():
                        selector.unregister(key.fileobj)
                    stop_if_asked_to(session)


class StartedLane:
    """A lane, as the run sees it."""

    def __init__(self, config: pytest.Config, number: int, folder: Path) -> None:
        self.begun: set[str] = set()
        self._hook = config.hook
        self._config = config
        self._log = folder / f"{number}.log"
        self._part = b""
        self._run: list[dict[str, Any]] = []  # of the file under way: its results are shown together
        self._running: dict[str, Any] | None = None
        self._ended = False
        self.pipe, out = os.pipe()
        options = [*config.invocation_params.args, f"--lane={number},{out},{folder}"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=config.invocation_params.dir,
                pass_fds=[out],
            )
        os.close(out)

    def read(self) -> bool:
        """Takes what it says; False when it has said its last."""
        data = os.read(self.pipe, READ_BYTES)
        *lines, self._part = (self._part + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))
        if not data:
            self._show()
        return bool(data)

    def _take(self, said: dict[str, Any]) -> None:
        if "end" in said:
            self._ended = True
        elif "reports" in said:
            self._running = None
            self._run.append(said)
        else:
            if self._run and file_of(self._run[-1]["test"]) != file_of(said["test"]):
                self._show()
            self._running = said
            self.begun.add(said["test"])

    def _show(self) -> None:
        for each in self._run:
            place = tuple(each["place"])
            self._hook.pytest_runtest_logstart(nodeid=each["test"], location=place)
            for data in each["reports"]:
                report = self._hook.pytest_report_from_serializable(config=self._config, data=data)
                if isinstance(report.longrepr, list):  # where a skip was and why: a tuple, before it was JSON
                    report.longrepr = tuple(report.longrepr)
                self._hook.pytest_runtest_logreport(report=report)
            self._hook.pytest_runtest_logfinish(nodeid=each["test"], location=place)
        self._run.clear()

    def death(self) -> str:
        """Waits for its end; what there is to say if it has died. The test that it died of has failed."""
        code = self.process.wait()
        if self._ended:
            return ""
        last = "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        if self._running is None:
            return f"a lane ended with status {code}:\n{last}"
        test, place = self._running["test"], tuple(self._running["place"])
        report = pytest.TestReport(
            test, place, {}, "failed", f"its lane ended with status {code}:\n{last}", "call"
        )
        self._hook.pytest_runtest_logreport(report=report)
        return f"a lane ended with status {code} in {test}"

    def stop(self) -> None:
        """At once, if it is not over."""
        os.close(self.pipe)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(END_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Lane:
    """The plugin of a lane: runs the files that it takes, and says how their tests have ended."""

    def __init__(self, config: pytest.Config, number: int, fd: int, folder: Path) -> None:
        os.set_inheritable(fd, False)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # that is how it is stopped
        self.config = config
        self.number = number
        self.folder = folder
        self.out = os.fdopen(fd, "w")
        self.reports: list[dict[str, Any]] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        run(session, self._taken([item for item in session.items if not is_quiet(item)]))
        self._say(end=True)
        return True

    def _taken(self, items: list[pytest.Item]) -> Iterator[pytest.Item]:
        files: dict[str, list[pytest.Item]] = {}
        for item in items:
            files.setdefault(file_of(item.nodeid), []).append(item)
        # From both ends: what lies in one folder uses the machine in one way.
        for file in reversed(files) if self.number % 2 else files:
            try:
                (self.folder / file.replace("/", "!")).touch(exist_ok=False)
            except FileExistsError:
                continue
            yield from files[file]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self.reports = []
        self._say(test=nodeid, place=location)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        hook = self.config.hook
        self.reports.append(hook.pytest_report_to_serializable(config=self.config, report=report))

    def pytest_runtest_logfinish(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self._say(test=nodeid, place=location, reports=self.reports)

    def _say(self, **what: Any) -> None:
        """Into a pipe that breaks when the run is over before its time: that ends this lane too."""
        self.out.write(json.dumps(what) + "\n")
        self.out.flush()
