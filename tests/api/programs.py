"""Programs in processes of their own, with a watchdog, and a look at what they leave behind.

Every process that a program starts inherits a variable that nobody else has, so that what is left of
it can be found, whatever it was named and whoever its parent is by now.
"""

import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

MARK = "RAY_API_TEST_PROGRAM"
TIMEOUT_S = 30.0
GONE_S = 2.0  # by then nothing of an ended program may be left
POLL_S = 0.005

Found = TypeVar("Found")


@dataclass(frozen=True)
class Finished:
    code: int  # negative: ended by that signal
    out: str
    err: str

    @property
    def both(self) -> str:
        return f"--- status {self.code}, stdout:\n{self.out}\n--- stderr:\n{self.err}"


class Running:
    """A started program; `line` and `finish` wait, and kill it, its stacks printed, if it takes too long."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process = process
        self._out = out
        self._err = err
        self._seen = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    def line_if_any(self) -> str | None:
        """The next line of standard output, without its end, if it is there."""
        data = self._out.read_bytes()
        end = data.find(b"\n", self._seen)
        if end < 0:
            assert self.process.poll() is None, f"ended before the line: {self._finished().both}"
            return None
        line, self._seen = data[self._seen : end], end + 1
        return line.decode()

    def line(self, timeout_s: float = TIMEOUT_S) -> str:
        """The next line of standard output, without its end."""
        found = wait_for(self.line_if_any, timeout_s)
        if found is None:
            self._stop()
            raise AssertionError(f"no line of output within {timeout_s} s\n{self._finished().both}")
        return found

    def err_so_far(self) -> str:
        return self._finished().err

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def finish(self, timeout_s: float = TIMEOUT_S) -> Finished:
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._stop()
            raise AssertionError(f"still running after {timeout_s} s\n{self._finished().both}") from None
        return self._finished()

    def _stop(self) -> None:
        self.process.send_signal(signal.SIGABRT)  # faulthandler prints every thread's stack
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _finished(self) -> Finished:
        return Finished(
            self.process.poll() or 0,
            self._out.read_text(errors="replace"),
            self._err.read_text(errors="replace"),
        )


class Programs:
    """Starts programs in a folder; on leaving, none of their processes may be there."""

    def __init__(self, folder: Path, user: int | None = None, become: Sequence[str] = ()) -> None:
        """`user`: whose the programs and their files are, when not this process's, and `become` the command
        that runs another as that user."""
        self.folder = folder
        self.user = user
        self.become = become
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._own(folder, self.temporary)
        self._mark = uuid.uuid4().hex
        self._count = 0
        self._started: list[Running] = []

    def write(self, name: str, source: str) -> Path:
        path = self.folder / name
        path.write_text(textwrap.dedent(source))
        self._own(path)
        return path

    def _own(self, *paths: Path) -> None:
        if self.user is not None:
            for path in paths:
                os.chown(path, self.user, self.user)

    def start(self, source: str, *args: str, env: Mapping[str, str] | None = None) -> Running:
        self._count += 1
        script = self.write(f"program{self._count}.py", source)
        out, err = script.with_suffix(".out"), script.with_suffix(".err")
        surroundings = {
            **os.environ,
            MARK: self._mark,
            "TMPDIR": str(self.temporary),
            "PYTHONFAULTHANDLER": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": _search_path(),
            **(self._surroundings() if self.user is not None else {}),
            **(env or {}),
        }
        with out.open("wb") as out_file, err.open("wb") as err_file:
            process = subprocess.Popen(
                [*self.become, sys.executable, str(script), *args],
                stdin=subprocess.DEVNULL,
                stdout=out_file,
                stderr=err_file,
                cwd=self.folder,
                env=surroundings,
                start_new_session=True,
            )
        running = Running(process, out, err)
        self._started.append(running)
        return running

    def _surroundings(self) -> dict[str, str]:
        """A home of its own; and another user may not write to this run's audit."""
        home = str(self.folder)
        return {
            "HOME": home,
            "XDG_CONFIG_HOME": os.path.join(home, "configuration"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }

    def run(
        self, source: str, *args: str, env: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S
    ) -> Finished:
        """Waits for the end, which must be with status 0."""
        done = self.start(source, *args, env=env).finish(timeout_s)
        assert done.code == 0, done.both
        return done

    def left(self) -> list[int]:
        """Living processes of all the programs, themselves included."""
        mark = f"{MARK}={self._mark}".encode()
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    environment = Path(f"/proc/{entry}/environ").read_bytes()
                except OSError:
                    continue  # ended meanwhile, or another user's
                if mark in environment.split(b"\0"):
                    found.append(int(entry))
        return found

    def gone(self, timeout_s: float = GONE_S) -> bool:
        """Waits until nothing is left."""
        return wait_for(lambda: not self.left() or None, timeout_s) is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for running in self._started:
            if running.process.poll() is None:
                running.process.kill()
            running.process.wait()
        if self.gone():
            return
        names = {pid: command(pid) for pid in self.left()}
        for pid in names:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if kind is None:
            raise AssertionError(f"processes left {GONE_S} s after the program's end: {names}")


def _search_path() -> str:
    """The tests' modules, and what this run has for all of its interpreters (`tests.audit`)."""
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(Path(__file__).parents[2]), *([inherited] if inherited else [])])


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "ended"


def wait_for(look: Callable[[], Found | None], timeout_s: float) -> Found | None:
    """What `look` returns, as soon as that is not None; None when the time is over."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found is not None or time.monotonic() > deadline:
            return found
        time.sleep(POLL_S)
