"""What every attack has: a short and a full form, a watchdog, figures with the bars they must hold.

An attack runs its driver as a program of its own (`tests.api.programs`), which uses `tests.chaos.inside`
and prints a line at every step.  `make chaos` sets RAY_CHAOS=full; `make test` runs the short forms.
`RAY_CHAOS_SEED` repeats the random choices of a run.
"""

import dataclasses
import json
import os
import random
import time
from collections.abc import Callable, Iterator

from tests.api.programs import Finished, Programs, Running

FULL = os.environ.get("RAY_CHAOS") == "full"
WATCHDOG_S = 60.0  # without a line from the driver for so long, it hangs
FIGURE = "figure "  # how a driver's line with a figure begins; the rest is JSON, from `inside.figure`


def times(full: int, short: int) -> int:
    """How often the attack strikes, in the form that is being run."""
    return full if FULL else short


@dataclasses.dataclass(frozen=True)
class Figure:
    """One measured value and the bar it holds, or misses."""

    attack: str
    name: str
    value: float
    unit: str
    bar: str
    held: bool

    def __str__(self) -> str:
        mark = "" if self.held else "  MISSED"
        return f"{self.attack}: {self.name} {self.value:,.6g} {self.unit}{self.bar}{mark}"


class Attack:
    """One attack: its programs, its random choices, its figures."""

    def __init__(self, name: str, programs: Programs, note: Callable[[Figure], None]) -> None:
        self.name = name
        self.programs = programs
        self.seed = int(os.environ.get("RAY_CHAOS_SEED", random.randrange(1 << 32)))
        self.random = random.Random(self.seed)
        self._note = note
        print(f"RAY_CHAOS_SEED={self.seed}")

    def figure(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        """Notes a figure for the table at the end of the run; fails if it misses its bar."""
        held = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
        bar = "".join(
            f" ({word} {limit:,.6g})"
            for word, limit in (("at most", at_most), ("at least", at_least))
            if limit is not None
        )
        noted = Figure(self.name, name, value, unit, bar, held)
        self._note(noted)
        assert held, str(noted)

    def lines(self, running: Running, watchdog_s: float = WATCHDOG_S) -> Iterator[str]:
        """The driver's lines as they come, until it says `done`; figures among them are noted.

        Raises AssertionError, with the stacks of the driver's threads, when no line comes for `watchdog_s`.
        """
        while (line := running.line(watchdog_s)) != "done":
            if line.startswith(FIGURE):
                self.figure(**json.loads(line.removeprefix(FIGURE)))
            yield line

    def run(self, source: str, *args: str, watchdog_s: float = WATCHDOG_S) -> Finished:
        """Runs a driver to its end, which must be with status 0 and the line `done`."""
        running = self.programs.start(source, *args)
        for _ in self.lines(running, watchdog_s):
            pass
        return self.finish(running, watchdog_s)

    def finish(self, running: Running, watchdog_s: float = WATCHDOG_S) -> Finished:
        """Waits for the end of a driver that has said `done`, which must be with status 0."""
        done = running.finish(watchdog_s)
        assert done.code == 0, done.both
        return done


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie; the largest for few values."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def wait_until(moment: float) -> None:
    """Sleeps until `time.monotonic()` says so: the moment of a strike, not a wait for a condition."""
    time.sleep(max(0.0, moment - time.monotonic()))
