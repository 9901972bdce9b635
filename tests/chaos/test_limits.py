"""Sessions on a system that gives too little: files, processes, memory, room, or a place to write."""

import pytest

from tests.chaos.attack import FULL, Attack

# What each try of a driver ends in: a session that works, or an error of this package that names the limit.
PRELUDE = """
import os, resource, sys, time
from pathlib import Path

from tests.chaos import confine

def told(error, *words):
    assert all(word in str(error) for word in words), repr(error)
    return error
"""
SESSION = """
import ray
from ray.errors import SessionEndedError, SystemLimitError
from ray.session import processes
from tests.chaos import inside

def fds():
    with confine.limited(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
        return sorted(os.listdir("/proc/self/fd"))

def children():
    with confine.limited(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
        return processes.descendants(os.getpid())

def all_ended():
    deadline = time.monotonic() + 5
    while left := children():
        assert time.monotonic() < deadline, left
        time.sleep(0.01)

def session_works(**settings):
    ray.init(num_cpus=2, object_store_memory=32 << 20, config={"start_ms": 5000, **settings})
    try:
        @ray.remote
        def double(x):
            return 2 * x

        assert ray.get([double.remote(x) for x in range(5)]) == [0, 2, 4, 6, 8]
        assert ray.get(ray.put(bytes(1 << 20))) == bytes(1 << 20)
    finally:
        ray.shutdown()

def try_session(*words):
    before = fds()
    try:
        session_works()
        return "works"
    except (SystemLimitError, SessionEndedError) as error:
        told(error, *words)
        inside.say(str(error))
        return type(error).__name__
    finally:
        all_ended()
        assert fds() == before, (before, fds())
"""
OPEN_FILES = (
    PRELUDE
    + SESSION
    + """
session_works()
all_ended()
outcomes = []
for most in map(int, sys.argv[1].split(",")):
    with confine.limited(resource.RLIMIT_NOFILE, most):
        outcomes.append(try_session("RLIMIT_NOFILE", f"{most} open files"))
        inside.say(f"{most} files: {outcomes[-1]}")
assert "works" not in outcomes, outcomes
held = []
tried = []
with confine.limited(resource.RLIMIT_NOFILE, 256):
    while True:
        try:
            held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            break
    while not tried or tried[-3:] != ["works"] * 3:
        tried.append(try_session("RLIMIT_NOFILE", "256 open files"))
        inside.say(f"{len(tried) - 1} files left: {tried[-1]}")
        os.close(held.pop())
while held:
    os.close(held.pop())
assert tried[0] == "SystemLimitError"
# A session that is there goes on without a single file.
ray.init(num_cpus=2, object_store_memory=32 << 20)
@ray.remote
def double(x):
    return 2 * x
ray.get(double.remote(1))
baseline = inside.Baseline()
with confine.limited(resource.RLIMIT_NOFILE, 100):
    while True:
        try:
            held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            break
    assert ray.get([double.remote(x) for x in range(100)]) == [2 * x for x in range(100)]
    values = [ray.put(bytes(1 << 20)) for _ in range(64)]  # the half of them spilled
    assert all(ray.get(value) == bytes(1 << 20) for value in values)
    del values
    for fd in held:
        os.close(fd)
baseline.check()
ray.shutdown()
all_ended()
inside.figure("tries without a file", len(outcomes) + len(tried), "times")
inside.done()
"""
)
PROCESSES = (
    PRELUDE
    + """
before = confine.own_user()
"""
    + SESSION
    + """
own = {}
for more in map(int, sys.argv[1].split(",")):
    most = before + more
    with confine.limited(resource.RLIMIT_NPROC, most):
        own[more] = try_session("RLIMIT_NPROC", f"{most} processes")
    inside.say(f"{more} processes: {own[more]}")
assert own[0] == "SystemLimitError"
assert own[max(own)] == "works"
inside.figure("tries without a process", sum(outcome != "works" for outcome in own.values()), "times")
inside.done()
"""
)
PROCESSES_LATER = (
    PRELUDE
    + """
confine.own_user()
"""
    + SESSION
    + """
ray.init(num_cpus=2, object_store_memory=32 << 20, driver_mode=3)
@ray.remote
def leaf(x):
    return x + 1

@ray.remote
def nested(x):
    return sum(ray.get([leaf.remote(x), leaf.remote(x)]))

@ray.remote
def starts_a_process(most):
    import subprocess
    with confine.limited(resource.RLIMIT_NPROC, most):
        return subprocess.run(["true"]).returncode

assert ray.get(nested.remote(1)) == 4
def name_of(pid):
    return Path(f"/proc/{pid}/comm").read_text().strip()

def find(name, above):
    # A process takes its name when it has begun to run.
    deadline = time.monotonic() + 10
    while not (found := [pid for pid in processes.descendants(above) if name_of(pid) == name]):
        assert time.monotonic() < deadline, name
        time.sleep(0.01)
    return found[0]

template = find("ray-template", find("ray-keeper", os.getpid()))
hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
resource.prlimit(template, resource.RLIMIT_NPROC, (1, hard))
try:
    ray.get(starts_a_process.remote(1))
    raise AssertionError("a process was made")
except BlockingIOError as error:
    assert isinstance(error, ray.errors.RayTaskError)
asked = [nested.remote(x) for x in range(8)]  # their leaves need workers that can't be forked now
ready, waiting = ray.wait(asked, num_returns=8, timeout=2000)
inside.say(f"{len(ready)} ready, {len(waiting)} waiting")
resource.prlimit(template, resource.RLIMIT_NPROC, (hard, hard))
assert ray.get(asked) == [2 * (x + 1) for x in range(8)]
assert ray.get(starts_a_process.remote(hard)) == 0
ray.shutdown()
all_ended()
inside.done()
"""
)
ADDRESS_SPACE = (
    PRELUDE
    + SESSION
    + """
session_works()
all_ended()
outcomes = []
for mib in map(int, sys.argv[1].split(",")):
    with confine.limited(resource.RLIMIT_AS, mib << 20):
        outcomes.append(try_session("RLIMIT_AS", f"{mib << 20:,} bytes"))
        inside.say(f"{mib} MiB: {outcomes[-1]}")
assert outcomes[0] == "works"
assert outcomes[-1] == "SystemLimitError"
session_works()
inside.figure("tries without address space", sum(outcome != "works" for outcome in outcomes), "times")
inside.done()
"""
)
FILE_SIZE = (
    PRELUDE
    + SESSION
    + """
folder = os.environ["TMPDIR"]
with confine.limited(resource.RLIMIT_FSIZE, 64 << 20):
    assert try_session("RLIMIT_FSIZE", f"{64 << 20:,} bytes") == "SystemLimitError"
ray.init(num_cpus=2, object_store_memory=32 << 20, config={"store_full_wait_ms": 300})
values = []
with confine.limited(resource.RLIMIT_FSIZE, 8 << 20):
    try:
        while True:
            values.append(ray.put(bytes([len(values)]) * (1 << 20)))
    except ray.errors.SpillError as error:
        told(error, folder, "too large")
        inside.say(f"{len(values)} MiB stored")
assert 32 <= len(values) < 64
values += [ray.put(bytes([len(values)]) * (1 << 20))]  # the limit is gone
for number, value in enumerate(values):
    assert ray.get(value) == bytes([number]) * (1 << 20)
ray.shutdown()
all_ended()
inside.done()
"""
)
PLASMA_DIRECTORY = (
    PRELUDE
    + """
confine.own_mounts()
folder = confine.small_disk(Path("plasma").absolute(), 96 << 20)
"""
    + SESSION
    + """
def start(mib):
    ray.init(num_cpus=2, object_store_memory=mib << 20, plasma_directory=str(folder), driver_mode=3)

before = fds()
ballast = confine.fill(folder)
try:
    start(32)
    raise AssertionError("it started on a full disk")
except SystemLimitError as error:
    told(error, str(folder), "bytes are free")
ballast.unlink()
try:
    start(128)
    raise AssertionError("it started on too small a disk")
except SystemLimitError as error:
    told(error, str(folder), "bytes are free")
assert fds() == before and not list(folder.iterdir())
all_ended()
start(32)
values = [ray.put(bytes([number]) * (1 << 20)) for number in range(64)]
for number, value in enumerate(values):
    assert ray.get(value) == bytes([number]) * (1 << 20)
ray.shutdown()
all_ended()
assert not list(folder.iterdir())

# Others take the room while the session runs. (Ids keep their arena's memory.)
del values, value
ray.init(
    num_cpus=1, object_store_memory=48 << 20, plasma_directory=str(folder), driver_mode=3,
    config={"store_full_wait_ms": 200},
)

@ray.remote
def made(mib):
    return bytes(mib << 20)

assert len(ray.get(made.remote(1))) == 1 << 20
ballast = confine.fill(folder)
values = []
try:
    while True:
        values.append(ray.put(bytes([len(values)]) * (1 << 20)))
except SystemLimitError as error:
    told(error, f"the space in {folder}")
assert len(values) < 40, len(values)
for number in range(3):
    try:
        ray.get(made.remote(12))
        raise AssertionError("a result found room")
    except SystemLimitError as error:
        assert isinstance(error, ray.errors.RayTaskError)
        told(error, f"the space in {folder}")
small = []
try:
    for number in range(200_000):  # until tables can't grow either
        small.append(ray.put(number))
except SystemLimitError as error:
    told(error, f"the space in {folder}")
inside.say(f"{len(values)} MiB and {len(small)} small values")
for number, value in enumerate(values):
    assert ray.get(value) == bytes([number]) * (1 << 20)
assert ray.get(small) == list(range(len(small)))
ballast.unlink()
assert len(ray.get(made.remote(12))) == 12 << 20
values += [ray.put(bytes([len(values)]) * (1 << 20)) for _ in range(4)]
assert inside.arena().check() == []
ray.shutdown()
all_ended()
assert not list(folder.iterdir())
inside.done()
"""
)
TEMPORARY_FOLDER = (
    PRELUDE
    + """
confine.own_mounts()
folder = confine.small_disk(Path("full").absolute(), 1 << 20)
os.environ["TMPDIR"] = str(folder)
"""
    + SESSION
    + """
ballast = confine.fill(folder)
session_works()  # needs none of it
ray.init(num_cpus=2, object_store_memory=32 << 20, driver_mode=3, config={"store_full_wait_ms": 100})
values = []
try:
    while True:
        values.append(ray.put(bytes(1 << 20)))
except ray.errors.ObjectStoreFullError as error:
    told(error, "32.0 MiB")
assert len(values) > 24
del values
assert ray.get(ray.put(bytes(1 << 20))) == bytes(1 << 20)
ray.shutdown()
ballast.unlink()

# Output that finds no room any more: the session goes on.
import tempfile
tempfile.tempdir = None
ray.init(num_cpus=1, object_store_memory=32 << 20, driver_mode=3, redirect_output=True)

@ray.remote
def talk():
    try:
        print("x" * 10_000, flush=True)
    except OSError as error:
        return error.errno
    return 0

assert ray.get(talk.remote()) == 0
ballast = confine.fill(folder)
assert ray.get([talk.remote() for _ in range(10)])[-1] == 28  # ENOSPC
ballast.unlink()
assert ray.get(talk.remote()) == 0
ray.shutdown()
all_ended()

# No folder at all for the output of all processes.
nowhere = confine.read_only_folder(Path("nowhere").absolute())
tempfile.tempdir = str(nowhere)
try:
    ray.init(num_cpus=1, object_store_memory=32 << 20, redirect_output=True)
    raise AssertionError("its output went nowhere")
except SystemLimitError as error:
    told(error, str(nowhere), "read-only")
all_ended()
inside.done()
"""
)
NOWHERE_TO_WRITE = (
    PRELUDE
    + """
confine.own_mounts()
folder = confine.read_only_folder(Path("read-only").absolute())
os.chdir(folder)
os.environ["HOME"] = str(folder)
if "unset" in sys.argv:
    del os.environ["HOME"]
if "temporary" in sys.argv:
    os.environ["TMPDIR"] = str(folder)
"""
    + SESSION
    + """
session_works()
session_works()
ray.init(num_cpus=1, object_store_memory=32 << 20, driver_mode=3, config={"store_full_wait_ms": 100})

@ray.remote
def where():
    return os.getcwd(), os.environ.get("HOME")

assert ray.get(where.remote()) == (str(folder), os.environ.get("HOME"))
ray.shutdown()
all_ended()
inside.done()
"""
)


def run(attack: Attack, source: str, *args: object) -> None:
    """Skips what the driver says that it can't have here."""
    running = attack.programs.start(source, *map(str, args))
    skipped = [line for line in attack.lines(running) if line.startswith("skip ")]
    attack.finish(running)
    if skipped:
        pytest.skip(skipped[0])


def listed(full: range, short: list[int]) -> str:
    return ",".join(map(str, full if FULL else short))


def test_no_open_files(attack: Attack) -> None:
    run(attack, OPEN_FILES, listed(range(16, 64), [20, 63]))


def test_no_processes(attack: Attack) -> None:
    run(attack, PROCESSES, listed(range(41), [0, 1, 5, 8, 9, 10, 40]))


def test_no_processes_later(attack: Attack) -> None:
    run(attack, PROCESSES_LATER)


def test_no_address_space(attack: Attack) -> None:
    run(attack, ADDRESS_SPACE, listed(range(6000, 400, -40), [6000, 3300, 400]))


def test_no_large_files(attack: Attack) -> None:
    run(attack, FILE_SIZE)


def test_full_plasma_directory(attack: Attack) -> None:
    run(attack, PLASMA_DIRECTORY)


def test_full_temporary_folder(attack: Attack) -> None:
    run(attack, TEMPORARY_FOLDER)


@pytest.mark.parametrize("given", ["home", "unset", "temporary"])
def test_nowhere_to_write(attack: Attack, given: str) -> None:
    run(attack, NOWHERE_TO_WRITE, given)
