"""A store filled to many times its size, on a disk that is slow, full or given back; killed in mid-spill."""

import os
import signal
import time
from collections import Counter

import pytest

from tests.chaos.attack import Attack, times
from tests.session.family import Family

STORE_MIB = times(full=256, short=32)
ROUNDS = times(full=5, short=3)
KILLS = times(full=200, short=25)
SPILLED_MIB = times(full=500, short=50)  # while processes are killed
VALUES = """
import os, random, sys, threading, time, zlib
from pathlib import Path

from tests.chaos import confine
from tests.chaos.contents import MIB, content, sizes_of
"""
# The disk's own speed is that of a file in the same folder, written and read in the same order: the system's
# page cache is there for both. A few values go the one way, then the same the other: what else the machine
# does slows both. The file is new in each round, as the session's is: pages that it had before are cheaper.
TEN_TIMES = (
    VALUES
    + """
import numpy as np
import ray
from tests.chaos import inside

BATCH = 8
store, rounds = int(sys.argv[1]) * MIB, int(sys.argv[2])
sizes = sizes_of(10 * store)
source = np.random.default_rng(1).integers(0, 256, 64 * MIB, np.uint8)  # more than fits into the caches

def value(number):
    start = 64 * 1009 * number % (60 * MIB)
    return source[start : start + sizes[number]]

expected = [zlib.crc32(value(number)) for number in range(len(sizes))]

@ray.remote
def one():
    return 1

class File:
    def __init__(self):
        self.fd = os.open(os.environ["TMPDIR"], os.O_TMPFILE | os.O_RDWR, 0o600)
        self.places, self.end = {}, 0

    def put(self, number):
        self.places[number] = self.end
        self.end += os.pwrite(self.fd, value(number), self.end)

    def get(self, number):
        return os.pread(self.fd, sizes[number], self.places[number])

class Store:
    def __init__(self):
        self.ids = {}

    def put(self, number):
        self.ids[number] = ray.put(value(number))

    def get(self, number):
        return ray.get(self.ids[number])

def checked(way):
    return lambda number: zlib.crc32(way.get(number)) == expected[number]

def timed(order, first, second):
    took = [0.0, 0.0]
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        for which, act in enumerate((first, second)):
            began = time.perf_counter()
            results = [act(number) for number in batch]
            took[which] += time.perf_counter() - began
            assert False not in results
    return took

for _ in range(rounds):
    ray.init(num_cpus=2, object_store_memory=store)
    ray.get([one.remote(), one.remote()])
    baseline = inside.Baseline()
    file, stored = File(), Store()
    order = list(range(len(sizes)))
    filling = timed(order, file.put, stored.put)
    inside.say("filled")
    random.shuffle(order)
    reading = timed(order, checked(file), checked(stored))
    assert inside.arena().stats()["spilled_bytes"] >= 8 * store
    os.close(file.fd)
    del file, stored
    baseline.check()
    ray.shutdown()
    inside.say(f"round {sum(sizes)} {filling[0]} {filling[1]} {reading[0]} {reading[1]}")
inside.done()
"""
)
FULL_DISK = (
    VALUES
    + """
confine.own_mounts()
folder = confine.small_disk(Path("disk").absolute(), 96 * MIB)
os.environ["TMPDIR"] = str(folder)
import ray
from tests.chaos import inside

def free():
    return os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize

at_first = free()
ray.init(
    num_cpus=2,
    driver_mode=ray.SILENT_MODE,
    object_store_memory=32 * MIB,
    config={"spill_fraction": 1.0, "store_full_wait_ms": 1000},
)

@ray.remote
def made(number):
    return bytes(content(number, MIB))

ray.get(made.remote(0))
baseline = inside.Baseline()
others = folder / "others"
with others.open("wb") as file:  # half of the disk is taken by somebody else, later
    file.write(bytes(64 * MIB))
ids = []
try:
    while True:
        ids.append(ray.put(bytes(content(len(ids), MIB))))
except ray.errors.SpillError as error:
    assert error.folder == str(folder) and str(folder) in str(error) and "No space" in str(error), error
    inside.say(f"{len(ids)} MiB in a store of 32 and a file of 32: {error}")
assert 48 <= len(ids) <= 64, len(ids)
try:
    ray.get(made.remote(0))
    raise AssertionError("a result found room")
except ray.errors.SpillError as error:
    assert isinstance(error, ray.errors.RayTaskError) and str(folder) in str(error), error
others.unlink()
for number in range(len(ids), 80):
    ids.append(ray.put(bytes(content(number, MIB))))
for number, oid in enumerate(ids):  # nothing was lost
    assert ray.get(oid) == content(number, MIB), number
assert ray.get(made.remote(7)) == content(7, MIB)
inside.say("work resumed")

# Who waits for room goes on by himself as soon as there is some.
confine.fill(folder)
later = threading.Timer(0.3, (folder / "ballast").unlink)
later.start()
began = time.monotonic()
while later.is_alive():
    ids.append(ray.put(bytes(content(len(ids), MIB))))
    del ids[0]
later.join()
assert ray.get(ids[-1])
del ids, oid
# The list of errors keeps the one of the task.
baseline.check(allow={"objects": 1, "heap_blocks": 3, "heap_used_bytes": 4096})
ray.shutdown()
assert free() == at_first, (at_first, free())
inside.done()
"""
)
KILLED = (
    VALUES
    + """
import json
import ray
from tests.chaos import inside

settings = {
    "restart_limit": 1000, "lock_patience_ms": 100, "store_full_wait_ms": 60_000, "idle_worker_ms": 300
}
info = ray.init(num_cpus=2, driver_mode=ray.SILENT_MODE, object_store_memory=24 * MIB, config=settings)
print(json.dumps(info), flush=True)

@ray.remote(max_retries=1000)
def made(number, size):
    return bytes(content(number, size))

@ray.remote(max_retries=1000)
def summed(*values):
    return [zlib.crc32(value) for value in values]

ray.get(summed.remote(made.remote(1, 100_000)))
baseline = inside.Baseline()
draw = random.Random(int(sys.argv[1]))
count = 48
kept = {}
checked = 0
while not os.path.exists("release"):
    # New values take the places of old ones; what is kept is twice the store.
    for _ in range(4):
        number, size = draw.randrange(1 << 20), draw.choice([256 << 10, MIB, 2 * MIB])
        oid = made.remote(number, size) if draw.random() < 0.7 else ray.put(bytes(content(number, size)))
        kept[draw.randrange(count)] = oid, number, size
    picked = draw.sample(sorted(kept), min(3, len(kept)))
    sums = ray.get(summed.remote(*(kept[place][0] for place in picked)))
    assert sums == [zlib.crc32(content(*kept[place][1:])) for place in picked], picked
    place = draw.choice(sorted(kept))
    assert ray.get(kept[place][0]) == content(*kept[place][1:])
    checked += 4
    if inside.arena().stats()["spilled_bytes"] >= int(sys.argv[2]) * MIB:
        Path("enough").touch()
    if checked % 100 == 0:
        inside.say(f"checked {checked}")
for oid, number, size in kept.values():
    assert ray.get(oid) == content(number, size)
inside.say(f"spilled {inside.arena().stats()['spilled_bytes'] >> 20}")
inside.say(f"checked {checked + len(kept)}")
kept.clear()
del oid
baseline.check()
inside.done()
"""
)
GIVEN_BACK = (
    VALUES
    + """
import json
import ray
from tests.chaos import inside

settings = {"restart_limit": 1000, "sweep_ms": 50}
store = int(sys.argv[1]) * MIB
info = ray.init(num_cpus=2, driver_mode=ray.SILENT_MODE, object_store_memory=store, config=settings)
print(json.dumps(info), flush=True)

def on_disk():
    # Every process of the session has the one file, which has no name.
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith(os.environ["TMPDIR"]):
                return os.fstat(int(name)).st_blocks * 512
        except OSError:
            continue

def given_back(most):
    deadline = time.monotonic() + 30
    while on_disk() > most:
        assert time.monotonic() < deadline, (on_disk(), most, inside.arena().stats())
        time.sleep(0.01)

baseline = inside.Baseline()
sizes = sizes_of(10 * store)
kept = {number: ray.put(bytes(content(number, size))) for number, size in enumerate(sizes)}
assert on_disk() >= 8 * store
inside.say("filled")
for part in (4, 16, 64):
    for number in random.sample(sorted(kept), len(kept) - len(sizes) // part):
        del kept[number]
    for _ in range(2):  # what is left moves while its neighbours' places are given back
        for number in random.sample(sorted(kept), len(kept)):
            assert ray.get(kept[number]) == content(number, sizes[number]), number
    # Places of less than a MiB stay, beside each value at most.
    left = sum(sizes[number] for number in kept)
    given_back(left + len(kept) * MIB + 4 * MIB)
    inside.say(f"{len(kept)} values of {left >> 20} MiB, {on_disk() >> 20} MiB on disk")
kept.clear()
given_back(MIB)
baseline.check()
assert ray.get(ray.put(bytes(content(1, MIB)))) == content(1, MIB)
inside.done()
"""
)
SESSION_GONE = (
    VALUES
    + """
confine.own_mounts()
folder = confine.small_disk(Path("disk").absolute(), 96 * MIB)
os.environ["TMPDIR"] = str(folder)
import signal, subprocess
from tests.chaos import inside

PROGRAM = '''
import os, sys, time
import ray
ray.init(num_cpus=2, object_store_memory=16 << 20, config={"spill_fraction": 1.0})

@ray.remote
def spills(ids):
    return len([ray.get(oid) for oid in ids[:8]])

ids = [ray.put(os.urandom(1 << 20)) for _ in range(64)]
assert ray.get(spills.remote(ids)) == 8
print("spilled", flush=True)
if sys.argv[1] == "ends":
    sys.exit()
while True:
    del ids[0]
    ids.append(ray.put(os.urandom(1 << 20)))
'''

def free():
    return os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize

at_first = free()
for number in range(int(sys.argv[1])):
    how = ["ends", "killed", "interrupted"][number % 3]
    call = [sys.executable, "-c", PROGRAM, how]
    program = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert program.stdout.readline() == b"spilled\\n"
    taken = at_first - free()
    assert how == "ends" or taken >= 40 * MIB, taken
    time.sleep(random.uniform(0, 0.05))
    if how != "ends":
        program.send_signal(signal.SIGKILL if how == "killed" else signal.SIGINT)
    program.wait(10)
    program.stdout.close()
    ended = time.monotonic()
    while free() != at_first or os.listdir(folder):
        assert time.monotonic() < ended + 2, (at_first, free(), os.listdir(folder))
        time.sleep(0.005)
    inside.say(how)
inside.done()
"""
)


def test_ten_times_the_store(attack: Attack) -> None:
    running = attack.programs.start(TEN_TIMES, str(STORE_MIB), str(ROUNDS))
    rounds = []
    for line in attack.lines(running):
        if line.startswith("round "):
            rounds.append([float(word) for word in line.split()[1:]])
    attack.finish(running)
    nbytes, file_filled, filled, file_read, read = (sum(column) for column in zip(*rounds, strict=True))
    gib = nbytes / (1 << 30)
    attack.figure("filling a file", gib / file_filled, "GiB/s")
    attack.figure("filling the store", gib / filled, "GiB/s")
    attack.figure("reading a file", gib / file_read, "GiB/s")
    attack.figure("reading back", gib / read, "GiB/s")
    attack.figure("filling, of the disk's speed", file_filled / filled, "times", at_least=0.5)
    attack.figure("reading back, of the disk's speed", file_read / read, "times", at_least=0.5)


def skipped(attack: Attack, source: str, *args: str) -> None:
    running = attack.programs.start(source, *args)
    reasons = [line for line in attack.lines(running) if line.startswith("skip ")]
    attack.finish(running)
    if reasons:
        pytest.skip(reasons[0])


def test_full_disk(attack: Attack) -> None:
    skipped(attack, FULL_DISK)


def test_spill_files_go_with_the_session(attack: Attack) -> None:
    skipped(attack, SESSION_GONE, str(times(full=60, short=6)))


def test_space_is_given_back(attack: Attack) -> None:
    """By the node manager, which is killed meanwhile."""
    running = attack.programs.start(GIVEN_BACK, str(STORE_MIB))
    family = Family(running)
    kills = 0
    for line in attack.lines(running):
        if line != "filled":
            continue
        for _ in range(times(full=20, short=5)):
            time.sleep(attack.random.uniform(0.05, 0.3))
            for pid in family.named("ray-node"):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                kills += 1
    attack.finish(running)
    attack.figure("ray-node killed", kills, "times", at_least=1)


def test_killed_in_mid_spill(attack: Attack) -> None:
    """Workers that spill what they return, bring back what they take; and the node manager."""
    running = attack.programs.start(KILLED, str(attack.seed), str(SPILLED_MIB))
    family = Family(running)
    hits: Counter[str] = Counter()
    lines = attack.lines(running)
    while sum(hits.values()) < KILLS or not (attack.programs.folder / "enough").exists():
        # A machine so slow that nothing is spilled between two kills gets more time.
        time.sleep(attack.random.uniform(0.01, 0.1 if sum(hits.values()) < KILLS else 1.0))
        name = attack.random.choice(["ray-worker"] * 4 + ["ray-node"])
        assert running.process.poll() is None, next(lines)
        pids = sorted(family.named(name))
        if pids:
            try:
                os.kill(attack.random.choice(pids), signal.SIGKILL)
            except ProcessLookupError:
                continue
            hits[name] += 1
    (attack.programs.folder / "release").touch()
    told = dict(line.split() for line in lines)
    attack.finish(running)
    for name, count in sorted(hits.items()):
        attack.figure(f"{name} killed", count, "times", at_least=1)
    attack.figure("values checked", float(told["checked"]), "values", at_least=KILLS // 4)
    attack.figure("spilled", float(told["spilled"]), "MiB", at_least=SPILLED_MIB)
