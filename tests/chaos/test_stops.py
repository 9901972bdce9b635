"""Processes are stopped, for long, and inside transactions: the node goes on, and nobody is taken for dead.

Who is stopped with the mutex in hand keeps all others waiting, until the node manager's lock watch, or one of
those who wait, tells it to go on.
"""

import signal
import time

import pytest

from ray import _kernel
from tests.api.programs import Running, wait_for
from tests.chaos.attack import FULL, WATCHDOG_S, Attack, percentile, times
from tests.chaos.events import Events, parsed
from tests.chaos.targets import Process, Targets
from tests.session.family import Family

GOES_ON_MS = 6000
HITS = times(full=10, short=1)  # inside a transaction
HITS_OF_TEMPLATE = 1  # it is seldom inside; the node manager hardly ever, so it has a test of its own
HOLDERS_HIT = ["worker", "driver", "template"] if FULL else ["worker"]
HIT_WITHIN_S = times(full=300, short=60)  # a busy process is met inside a transaction every few tries
RUNS_ON_S = 0.002  # between two tries, or a process is stopped again where it was
WORKER_STOPPED_S = times(full=60, short=2)
NODE_MANAGER_STOPPED_S = times(full=30, short=2)
STOPS_OF_IDLE = times(full=50, short=4)
COMPARED_S = times(full=10, short=1)  # of work before and after the stop
UNAFFECTED = 0.5  # of the rate before or after: other programs use these cores as well
HOLDERS = """
import json, os, threading, time
import ray

from ray import _kernel
from tests.chaos import inside

settings = {"restart_limit": 1000, "restart_pause_ms": 0}
print(json.dumps(ray.init(num_cpus=2, driver_mode=3, config=settings)), flush=True)

@ray.remote(max_retries=0)
def busy(number):
    inside.tell("busy", number, "runs")
    for i in range(200):
        ray.put(bytes(i))
        inside.arena().journal(_kernel.JOURNAL_NOTE, b"for the node manager")
    return number

@ray.remote(max_calls=1, max_retries=0)
def last(number):
    return number

def puts():
    while not os.path.exists("release"):
        for i in range(1000):
            ray.put(bytes(i))

number = 0
ray.get([busy.remote(-1), last.remote(0)])
baseline = inside.Baseline()
thread = threading.Thread(target=puts)  # or the driver would hardly be met inside a transaction
thread.start()
inside.say("ready")
while not os.path.exists("release"):
    ids = [busy.remote(number + i) for i in range(4)] + [last.remote(number + 4)]
    ray.put(bytes(100))
    assert ray.get(ids) == list(range(number, number + 5))
    number += 5
del ids
thread.join()
baseline.check(allow=inside.journal_of(functions=2))  # notes have taken the place of what it held before
inside.done()
"""
# Counts its results a quarter of a second at a time; every wait is bounded by what the issue allows.
WORK = """
import json, os, threading, time
import ray

from tests.chaos import inside

print(json.dumps(ray.init(num_cpus=2, driver_mode=3)), flush=True)

@ray.remote
def noop(x):
    return x

@ray.remote
def fails():
    raise ValueError("for the journal")

@ray.remote
def long(x):
    inside.tell("begun", x)
    while not os.path.exists("release"):
        time.sleep(0.01)
    return x, os.getpid()

ray.get([noop.remote(1), noop.remote(2)])
first = long.remote(7)
while not os.path.exists("over"):
    until = time.monotonic() + 0.25
    done = 0
    while time.monotonic() < until:
        began = time.monotonic()
        assert ray.get([noop.remote(i) for i in range(20)], timeout=6000) == list(range(20))
        done += 20
    inside.tell("window", done)
inside.raised_by_get(fails.remote())
open("release", "w").close()
print(*ray.get(first), flush=True)
deadline = time.monotonic() + 10
while not ray.error_info():
    assert time.monotonic() < deadline
    time.sleep(0.01)
inside.done()
"""

IDLE = """
import json, os, sys, time
import ray

from tests.chaos import inside

stops = int(sys.argv[1])
info = ray.init(num_cpus=2, driver_mode=3, config={"idle_worker_ms": 600_000})  # all of them stay
print(json.dumps(info), flush=True)

@ray.remote
def noop(x):
    return x

@ray.remote
def nap():
    time.sleep(0.05)

ray.get([nap.remote() for _ in range(4)])
baseline = inside.Baseline()
inside.say("ready")
slowest = 0
for number in range(stops):
    while not os.path.exists(f"go{number}"):
        time.sleep(0.005)
    began = time.monotonic()
    for x in range(50):
        assert ray.get(noop.remote(x)) == x
    assert ray.get([noop.remote(x) for x in range(50)]) == list(range(50))
    slowest = max(slowest, 1000 * (time.monotonic() - began))
    inside.say(f"stop {number}")
inside.figure("100 tasks beside a stopped idle worker, slowest", slowest, "ms", at_most=6000)
baseline.check(allow=inside.journal_of(functions=2))
inside.done()
"""


def stop_inside(targets: Targets, kind: int) -> Process:
    """Stops a process of this kind at a moment when it has the mutex."""
    deadline = time.monotonic() + HIT_WITHIN_S
    while time.monotonic() < deadline:
        for process in targets.of_kind(kind):
            if not process.stop():
                continue
            if targets.arena.lock_holder(0) == process.pid:
                return process
            process.send(signal.SIGCONT)
        time.sleep(RUNS_ON_S)
    pytest.fail("no process was met inside a transaction")


@pytest.mark.parametrize("who", HOLDERS_HIT)
def test_stopped_with_the_mutex(attack: Attack, who: str) -> None:
    kind = getattr(_kernel, who.upper())
    running = attack.programs.start(HOLDERS)
    family = Family(running)
    assert running.line() == "ready"
    targets = Targets(family.arena())
    targets.only(_kernel.NODE_MANAGER)
    kept_ms = []
    for _ in range(HITS_OF_TEMPLATE if who == "template" else HITS):
        process = stop_inside(targets, kind)
        kept_ms.append(1000 * targets.handed_on_s())
        assert wait_for(lambda process=process: process.state not in "T" or None, 1.0), "it was continued"
        assert who == "worker" or process.state not in "ZX", f"the {who} was taken for dead"
    (attack.programs.folder / "release").touch()
    for _ in attack.lines(running):
        pass
    assert targets.arena.check() == []
    attack.finish(running)
    runs = [event.number for event in parsed((attack.programs.folder / "runs").read_text().splitlines())]
    assert len(runs) - 1 == len({number for number in runs if number >= 0}), "a task ran twice"
    attack.figure("stopped with the mutex", len(kept_ms), "times")
    attack.figure("went on, slowest", max(kept_ms), "ms", at_most=GOES_ON_MS)


@pytest.mark.parametrize("by", ["SIGKILL", "SIGSTOP"])
def test_stopped_with_the_mutex_and_no_node_manager(attack: Attack, by: str) -> None:
    """Killed: the next one does not wait for the mutex before it looks who has it.  Stopped, as it might be
    with the mutex in its own hands: those who wait tell the owner to go on."""
    running = attack.programs.start(HOLDERS)
    targets = Targets(Family(running).arena())
    assert running.line() == "ready"
    kept_ms = []
    for _ in range(HITS):
        watching = targets.only(_kernel.NODE_MANAGER)
        stop_inside(targets, _kernel.WORKER)
        assert watching.send(signal.Signals[by])
        kept_ms.append(1000 * targets.handed_on_s())
        if by == "SIGKILL":
            targets.another(_kernel.NODE_MANAGER, than=watching)
        else:
            assert watching.state == "T"
            watching.send(signal.SIGCONT)
    (attack.programs.folder / "release").touch()
    for _ in attack.lines(running):
        pass
    attack.finish(running)
    attack.figure("stopped with the mutex", len(kept_ms), "times")
    attack.figure("went on, slowest", max(kept_ms), "ms", at_most=GOES_ON_MS)


class Work:
    """The driver that counts its results, in windows, and the process that is stopped meanwhile."""

    def __init__(self, attack: Attack, events: Events) -> None:
        self.attack = attack
        self.events = events
        self.running: Running = attack.programs.start(WORK)
        self.family = Family(self.running)
        self.targets = Targets(self.family.arena())
        self.targets.only(_kernel.NODE_MANAGER)
        self.begun: list[int] = []  # pids of those that ran the long task

    def rates(self, seconds: float) -> list[float]:
        """Of the work in each window, in results a window, of so many seconds."""
        until = time.monotonic_ns() + seconds * 1e9
        rates = []
        while True:
            event = self.events.next(self.running)
            if event.kind == "begun":
                self.begun.append(event.pid)
            elif event.when_ns > until and rates:
                return rates
            else:
                rates.append(float(event.number))

    def during(self, process: Process, seconds: float) -> None:
        """Stops it, for so long; the work must go on as before and after."""
        before = percentile(self.rates(COMPARED_S), 0.5)
        assert process.send(signal.SIGSTOP)
        during = self.rates(seconds)
        assert process.state == "T", "it was stopped all the time"
        assert process.send(signal.SIGCONT)
        self.rates(0)  # the window in which it went on
        after = percentile(self.rates(COMPARED_S), 0.5)
        self.attack.figure("stopped", seconds, "s")
        self.attack.figure("work meanwhile, slowest quarter of a second", min(during), "results")
        share = percentile(during, 0.5) / min(before, after)
        self.attack.figure("work meanwhile, of before or after", share, "times", at_least=UNAFFECTED)

    def end(self) -> None:
        """Nothing was run twice, and everything has arrived."""
        (self.attack.programs.folder / "over").touch()
        assert len(self.begun) == 1, "the stopped worker's task was run by another"
        *_, result = self.attack.lines(self.running)
        assert [int(word) for word in result.split()] == [7, self.begun[0]]
        assert self.targets.arena.check() == []
        self.attack.finish(self.running)


def test_worker_stopped_in_a_task(attack: Attack) -> None:
    with Events(attack.programs.folder) as events:
        work = Work(attack, events)
        while not work.begun:
            work.rates(0)
        victim = next(each for each in work.targets.of_kind(_kernel.WORKER) if each.pid == work.begun[0])
        work.during(victim, WORKER_STOPPED_S)
        work.end()


def test_node_manager_stopped(attack: Attack) -> None:
    with Events(attack.programs.folder) as events:
        work = Work(attack, events)
        while not work.begun:
            work.rates(0)
        victim = work.targets.only(_kernel.NODE_MANAGER)
        work.during(victim, NODE_MANAGER_STOPPED_S)
        assert work.targets.of_kind(_kernel.NODE_MANAGER) == [victim], "it was taken for dead"
        work.end()


def test_idle_worker_stopped(attack: Attack) -> None:
    """The one that would be given the next task; another is, and nobody is taken for dead."""
    running = attack.programs.start(IDLE, str(STOPS_OF_IDLE))
    arena = Family(running).arena()
    targets = Targets(arena)
    assert running.line() == "ready"
    stopped = set()

    def all_idle() -> bool | None:
        stats = arena.stats()
        return stats["idle_workers"] == stats["workers"] or None

    for number in range(STOPS_OF_IDLE):
        assert wait_for(all_idle, WATCHDOG_S), arena.stats()
        victim = attack.random.choice(targets.of_kind(_kernel.WORKER))
        assert victim.stop()
        stopped.add(victim)
        (attack.programs.folder / f"go{number}").touch()
        assert running.line(WATCHDOG_S) == f"stop {number}"
        assert victim.send(signal.SIGCONT)
    for _ in attack.lines(running):
        pass
    assert stopped <= set(targets.of_kind(_kernel.WORKER)), "a stopped worker was taken for dead"
    attack.finish(running)
