"""Template, node manager and Redis are killed in turn while tasks run: none of these is lost or doubled.

Each service is not only there within a second, but of use again.  Every task writes its number down, so that
a second run would be seen.  Some end their worker, so that new ones are needed all the time; some fail, so
that the journal has something for Redis.
"""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ray import _kernel
from ray.control_store.client import ControlStore
from ray.errors import RaySystemError
from ray.session import processes
from tests.api.programs import wait_for
from tests.chaos.attack import WATCHDOG_S, Attack, percentile, times
from tests.chaos.events import parsed
from tests.chaos.targets import Process, Targets
from tests.session.family import Family

KILLS = times(full=100, short=12)
BACK_MS = 1000
PAUSE_S = 0.1  # at most, between a service's return and the next strike
POLL_S = 0.002
DRIVER_JOB = 1
RUNS = "runs"  # the file
DRIVER = """
import json, os, time
import ray

from tests.chaos import inside

# No service may be held back after so many deaths, or given up: what that is tested for, is not wanted here.
settings = {"restart_limit": 1_000_000, "restart_pause_ms": 0}
print(json.dumps(ray.init(num_cpus=2, driver_mode=3, config=settings)), flush=True)

@ray.remote
def plain(number):
    inside.tell("plain", number, "runs")
    return number, sum(range(5_000))

@ray.remote(max_calls=1)
def last(number):
    inside.tell("last", number, "runs")
    return number, os.getpid()

@ray.remote
def fails(number):
    inside.tell("fails", number, "runs")
    raise ValueError(number)

def one_round(number):
    plains = [plain.remote(number + i) for i in range(18)]
    lasts = [last.remote(number + 18)]
    failed = fails.remote(number + 19)
    assert ray.get(plains) == [(number + i, sum(range(5_000))) for i in range(18)]
    assert ray.get(lasts)[0][0] == number + 18
    error = inside.raised_by_get(failed)
    assert isinstance(error, ValueError) and error.args == (number + 19,), error
    return number + 20

number = one_round(0)
baseline = inside.Baseline()
inside.say("ready")
while not os.path.exists("release"):
    number = one_round(number)
    inside.say(f"tasks {number}")
errors = number // 20  # the journal keeps them, and they lie in the store
baseline.check(allow=inside.journal_of(errors))
deadline = time.monotonic() + 10
while len(ray.error_info()) < errors:
    assert time.monotonic() < deadline, (len(ray.error_info()), errors)
    time.sleep(0.01)
assert len(ray.error_info()) == errors, "an error was listed twice"
inside.done()
"""


class Services:
    """The three that are killed, and when each is of use again."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.targets = Targets(family.arena())
        record = family.record()
        self.store = ControlStore([record.redis_address], record.redis_password)

    def template(self) -> Callable[[], bool]:
        """Back when a worker has joined that a new template has forked."""
        old = self._killed(_kernel.TEMPLATE)

        def back() -> bool:
            new = {each.pid for each in self.targets.of_kind(_kernel.TEMPLATE)} - {old}
            workers = (processes.stat(each.pid) for each in self.targets.of_kind(_kernel.WORKER))
            return any(found is not None and found[1] in new for found in workers)

        return back

    def node_manager(self) -> Callable[[], bool]:
        """Back when an entry written after its death has reached Redis."""
        self._killed(_kernel.NODE_MANAGER)
        return self._copied()

    def redis(self) -> Callable[[], bool]:
        """The same; the new server holds what its predecessor held."""
        pid = self.family.only("valkey-server")
        found = processes.stat(pid)
        assert found is not None
        assert Process(pid, found[2]).send(signal.SIGKILL)
        return self._copied()

    def _killed(self, kind: int) -> int:
        """The pid of the one that was killed."""
        victim = self.targets.only(kind)
        assert victim.send(signal.SIGKILL)
        return victim.pid

    def _copied(self) -> Callable[[], bool]:
        last = self.targets.arena.stats()["journal_last"]

        def back() -> bool:
            try:
                return self.store.place(DRIVER_JOB) > last
            except RaySystemError:
                return False

        return back


def as_installed(folder: Path) -> dict[str, str]:
    """Modules are compiled once, as in an installed package, whatever these tests' surroundings say."""
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}


@pytest.mark.quiet
def test_services_killed_in_turn(attack: Attack) -> None:
    running = attack.programs.start(DRIVER, env=as_installed(attack.programs.folder))
    family = Family(running)
    assert running.line() == "ready"
    services = Services(family)
    wait_for(lambda: services.store.place(DRIVER_JOB) or None, WATCHDOG_S)
    strikes = {
        "node manager": services.node_manager,
        "template": services.template,
        "Redis": services.redis,
    }
    back_ms: dict[str, list[float]] = {name: [] for name in strikes}
    for number in range(KILLS):
        name = list(strikes)[number % len(strikes)]
        began = time.monotonic()
        back = strikes[name]()
        while not back():
            assert running.process.poll() is None, running.finish().both
            assert time.monotonic() - began < WATCHDOG_S, f"{name} did not come back"
            time.sleep(POLL_S)
        back_ms[name].append(1000 * (time.monotonic() - began))
        time.sleep(attack.random.uniform(0, PAUSE_S))
    services.store.close()
    (attack.programs.folder / "release").touch()
    lines = list(attack.lines(running))
    attack.finish(running)
    told = parsed((attack.programs.folder / RUNS).read_text().splitlines())
    tasks = max(int(line.split()[1]) for line in lines if line.startswith("tasks "))
    assert sorted(event.number for event in told) == list(range(tasks)), "each task ran once"
    attack.figure("tasks, each run once", tasks, "tasks", at_least=KILLS)
    for name, values in back_ms.items():
        attack.figure(f"{name} killed", len(values), "times")
        attack.figure(f"{name} of use again, median", percentile(values, 0.5), "ms")
        attack.figure(f"{name} of use again, slowest", max(values), "ms", at_most=BACK_MS)
