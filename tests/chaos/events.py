"""What the driver of an attack and its tasks tell while they run, as it happens.

The other end of `inside.tell`: a named pipe in the driver's folder, so that whoever strikes sleeps until the
moment to strike at.  A line shorter than the pipe's buffer comes whole or not at all (pipe(7)).
"""

import os
import select
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self

from tests.api.programs import Running
from tests.chaos.attack import WATCHDOG_S

NAME = "events"
READ_BYTES = 65_536
LOOK_MS = 200  # between two looks whether the driver lives


class Event(NamedTuple):
    kind: str
    number: int
    pid: int
    when_ns: int  # of the monotonic clock, which all processes share


def parsed(lines: Iterable[str]) -> list[Event]:
    """The events of these lines."""
    found = []
    for line in lines:
        kind, number, pid, when_ns = line.split()
        found.append(Event(kind, int(number), int(pid), int(when_ns)))
    return found


class Events:
    """Make it before the driver is started; `next` sleeps until somebody tells something."""

    def __init__(self, folder: Path) -> None:
        os.mkfifo(folder / NAME)
        # For writing as well, so that the pipe never ends while nobody tells.
        self._fd = os.open(folder / NAME, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._data = b""
        self.seen: list[Event] = []

    def next(self, running: Running, timeout_s: float = WATCHDOG_S) -> Event:
        """Raises AssertionError when the driver ends, or nothing is told for so long."""
        deadline = time.monotonic() + timeout_s
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        while b"\n" not in self._data:
            if poller.poll(LOOK_MS):
                self._data += os.read(self._fd, READ_BYTES)
            elif running.process.poll() is not None:
                raise AssertionError(f"the driver ended: {running.finish().both}")
            elif time.monotonic() > deadline:
                running.line(0)  # raises, with the stacks of the driver's threads
        line, _, self._data = self._data.partition(b"\n")
        event = parsed([line.decode()])[0]
        self.seen.append(event)
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
