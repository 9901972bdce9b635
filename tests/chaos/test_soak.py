"""Mixed work for hours with a fault every ten seconds: nothing grows, and no error but the expected ones.

`make soak` runs it for 8 hours, `make soak SOAK_SECONDS=180` for as long as that says.
"""

import os
import signal
import time
from collections import Counter

import pytest

from ray import _kernel
from ray.session import handshake, processes
from tests.chaos.attack import FULL, WATCHDOG_S, Attack
from tests.chaos.growth import Bound, Series
from tests.session.family import Family, port_of

CI_S = 20.0  # in `make test`, to which start and end are added
CHAOS_S = 180.0  # in `make chaos`
SOAK_S = float(os.environ.get("SOAK_SECONDS") or (CHAOS_S if FULL else CI_S))
FAULT_S = 10.0 if SOAK_S >= CHAOS_S else 3.0  # from one fault to the next
SAMPLE_S = min(30.0, max(1.0, SOAK_S / 200))
PROGRESS_S = 10.0
TURN_S = 0.05
STOP_S = 3.0  # at most; then a stopped process goes on
STOPPED_SHARE = 0.3  # of the faults; the others kill
VICTIMS = ["ray-worker"] * 4 + ["ray-template", "ray-node", "valkey-server"]
SERVICES = ("ray-keeper", "ray-node", "ray-template", "valkey-server")
MIB = 1 << 20
# Memory: what nobody shares. An allocator keeps what was in use once, and a new worker has the template's.
BOUNDS = {
    "memory": Bound(12.0, "MiB", share=0.10),
    "memory of the largest worker": Bound(48.0, "MiB", share=0.10),
    "memory of the arena": Bound(16.0, "MiB", share=0.10),
    "descriptors": Bound(6.0, "descriptors"),
    "threads": Bound(4.0, "threads"),
}
DRIVER = """
from tests.chaos import mixed_work
mixed_work.main()
"""


class Watch:
    """Samples of everything that could grow, taken from outside."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._admitted = handshake.connect(port_of(family.info["redis_address"]), 2.0)
        self._arena = _kernel.Arena.attach(self._admitted.arena_fd)
        self._began = time.monotonic()
        self.series = Series()

    def sample(self) -> None:
        values: dict[str, float] = {}
        named = self._named()
        for name in ("driver", *SERVICES):
            if len(pids := named.get(name, [])) == 1:
                self._look_at(values, name, pids[0])
        if workers := [own_mib(pid) for pid in named.get("ray-worker", [])]:
            values["memory of the largest worker"] = max(workers)
        stats = self._arena.stats()
        values["memory of the arena"] = os.fstat(self._admitted.arena_fd).st_blocks * 512 / MIB
        values["spill file in MiB"] = stats["spill_file_used_bytes"] / MIB
        values["objects"] = stats["objects"]
        values["tasks"] = stats["tasks"]
        self.series.add(time.monotonic() - self._began, values)

    def _named(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {"driver": [self._family.driver]}
        for name in (*SERVICES, "ray-worker"):
            found[name] = sorted(self._family.named(name))
        return found

    @staticmethod
    def _look_at(values: dict[str, float], name: str, pid: int) -> None:
        try:
            memory = own_mib(pid)
            descriptors = len(os.listdir(f"/proc/{pid}/fd"))
            threads = len(os.listdir(f"/proc/{pid}/task"))
        except OSError:  # it was just killed
            return
        values[f"memory of {name}"] = memory
        values[f"descriptors of {name}"] = descriptors
        values[f"threads of {name}"] = threads

    def line(self) -> str:
        names = ("memory of driver", "memory of ray-node", "memory of valkey-server", "memory of the arena")
        memory = ", ".join(f"{name[10:]} {self.series.last(name):.0f}" for name in names)
        rest = ("objects", "tasks", "spill file in MiB")
        return f"MiB: {memory}; " + ", ".join(f"{name} {self.series.last(name):.0f}" for name in rest)

    def close(self) -> None:
        del self._arena
        self._admitted.close()


def own_mib(pid: int) -> float:
    """Its share of memory that is no file's and no arena's; 0 if it has ended."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            for line in rollup:
                if line.startswith("Pss_Anon:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


class Faults:
    """One every `FAULT_S`: a process is killed, or stopped for a moment."""

    def __init__(self, attack: Attack, family: Family) -> None:
        self._random = attack.random
        self._family = family
        self._next = time.monotonic() + FAULT_S
        self._stopped: tuple[int, float] | None = None  # who, and until when
        self.counted: Counter[str] = Counter()

    def turn(self) -> None:
        now = time.monotonic()
        if self._stopped and now >= self._stopped[1]:
            self.release()
        if now < self._next:
            return
        name = self._random.choice(VICTIMS)
        pids = sorted(self._family.named(name))
        if not pids:
            return  # it is just being started again
        self._next = now + FAULT_S
        pid = self._random.choice(pids)
        stop = self._random.random() < STOPPED_SHARE and self._stopped is None
        try:
            os.kill(pid, signal.SIGSTOP if stop else signal.SIGKILL)
        except ProcessLookupError:
            return
        self.counted[f"{name} {'stopped' if stop else 'killed'}"] += 1
        if stop:
            self._stopped = pid, now + self._random.uniform(0.2, STOP_S)

    def release(self) -> None:
        """Lets the stopped one go on."""
        if self._stopped:
            pid, self._stopped = self._stopped[0], None
            found = processes.stat(pid)
            if found and found[0] == "T":
                os.kill(pid, signal.SIGCONT)


@pytest.mark.timeout(SOAK_S + 240)
def test_soak(attack: Attack) -> None:
    running = attack.programs.start(DRIVER, str(attack.random.randrange(1 << 30)))
    family = Family(running)
    assert running.line() == "begin"
    watch, faults = Watch(family), Faults(attack, family)
    said = ""
    began = heard = time.monotonic()
    sample_at, progress_at = began, began + PROGRESS_S
    try:
        while (now := time.monotonic()) < began + SOAK_S:
            faults.turn()
            if now >= sample_at:
                watch.sample()
                sample_at = now + SAMPLE_S
            if now >= progress_at:
                print(f"{now - began:6.0f} s  {said}  {watch.line()}  faults {sum(faults.counted.values())}")
                progress_at = now + PROGRESS_S
            if line := running.line_if_any():
                said, heard = line, now
            elif now > heard + WATCHDOG_S:
                running.line(0.0)  # shows where it hangs
            time.sleep(TURN_S)
    finally:
        faults.release()
        watch.close()
    (attack.programs.folder / "release").touch()
    for line in attack.lines(running):
        print(line)
    attack.finish(running)
    report(attack, watch.series, faults.counted)


def report(attack: Attack, series: Series, faults: Counter[str]) -> None:
    """The figures of faults and growth; all of them, before the one that misses its bar fails the test."""
    missed = []
    for name, count in sorted(faults.items()):
        attack.figure(name, count, "times")
    for name in series.names():
        general = name.split(" of ")[0]
        if bound := BOUNDS.get(name) or BOUNDS.get(general):
            growth = series.growth(name)
            try:
                attack.figure(f"growth, {name}", growth, bound.unit, at_most=series.allowed(name, bound))
            except AssertionError as error:
                missed.append(str(error))
    assert not missed, "\n".join(missed)
