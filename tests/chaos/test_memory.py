"""Tasks and actors that eat memory: one at a time is stopped, with an error that says why; all else goes on.

The limit is the session's own, a few hundred MiB, so that the machine never suffers; and a cgroup's, where
one can be made.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.programs import Running
from tests.chaos.attack import Attack, times
from tests.chaos.cgroup import MemoryCgroup
from tests.chaos.events import parsed
from tests.session.family import Family

ROUNDS = times(full=20, short=2)
LIMIT_MIB = 400
BEYOND_MIB = 400  # so much more may be in use when somebody is stopped: a loaded machine looks late
CONTROL = ("ray-keeper", "ray-template", "ray-node", "valkey-server")
HEAD = """
import json, os, subprocess, sys, time
import ray

from tests.chaos import inside

MIB = 1 << 20
settings = json.loads(sys.argv[1])
mode = ray.SCRIPT_MODE if sys.argv[2:] == ["prints"] else ray.SILENT_MODE
info = ray.init(num_cpus=6, driver_mode=mode, config={"memory_pause_ms": 100, **settings})
print(json.dumps(info), flush=True)

def eat(mib, step=5):
    held = []
    for _ in range(0, mib, step):
        held.append(bytearray(b"x") * (step * MIB))
        time.sleep(0.005)
    return held

def told_why(error, name):
    why = error.shortage
    text = str(error)
    assert repr(name) in text and str(error.pid) in text and why.what in text and why.setting in text, text
    assert f"{why.limit_bytes / MIB:,.1f} MiB" in text and f"{why.held_bytes / MIB:,.1f} MiB" in text, text
    assert why.act_bytes <= why.used_bytes and 0 < why.held_bytes, why
    return why

inside.say("ready")
"""


def start(attack: Attack, source: str, *args: str, **settings: float) -> tuple[Running, dict[str, int]]:
    """The driver, and who holds its session together."""
    running = attack.programs.start(HEAD + source, json.dumps(settings), *args)
    family = Family(running)
    assert running.line() == "ready"
    return running, {name: family.only(name) for name in CONTROL}


def end(attack: Attack, running: Running, control: dict[str, int]) -> str:
    """Lets the driver come to its end, before which nobody of these may have died; its standard error."""
    family = Family.__new__(Family)
    family.driver = running.pid
    for line in attack.lines(running):
        if line == "over":
            assert {name: family.only(name) for name in CONTROL} == control
            (attack.programs.folder / "looked").touch()
    return attack.finish(running).err


LAST_LOOK = """
inside.say("over")
while not os.path.exists("looked"):
    time.sleep(0.01)
inside.done()
"""

EATER = """
import threading

@ray.remote(max_retries=1)
def eater(number):
    inside.tell("begun", number, "log")
    eat(4000)

@ray.remote(max_retries=0)
def work(x):
    return x + sum(range(10_000))

def load():
    number = 0
    while not over.is_set():
        expected = [x + sum(range(10_000)) for x in range(number, number + 20)]
        assert ray.get([work.remote(x) for x in range(number, number + 20)]) == expected
        number += 20
    finished.append(number)

over, finished = threading.Event(), []
ray.get(work.remote(0))
baseline = inside.Baseline()
loader = threading.Thread(target=load)
loader.start()
most = 0
for number in range(int(sys.argv[2])):
    error = inside.raised_by_get(eater.remote(number))
    assert type(error) is ray.errors.OutOfMemoryError, repr(error)
    assert isinstance(error, MemoryError) and isinstance(error, ray.errors.WorkerCrashedError)
    why = told_why(error, "eater")
    assert why.what == "this session" and why.stops == 1 + settings["memory_retry_limit"], why
    most = max(most, why.used_bytes - why.limit_bytes)
    inside.say(f"round {number}")
over.set()
loader.join()
inside.figure("in use beyond the limit, most", most / MIB, "MiB", at_most=float(sys.argv[3]))
inside.figure("other tasks done meanwhile", finished[0], "tasks", at_least=20)
del error
baseline.check(inside.journal_of(errors=int(sys.argv[2]), functions=2))
"""


def test_a_worker_that_eats_memory(attack: Attack) -> None:
    running, control = start(
        attack,
        EATER + LAST_LOOK,
        str(ROUNDS),
        str(BEYOND_MIB),
        memory_limit_bytes=LIMIT_MIB << 20,
        memory_retry_limit=1,
    )
    text = end(attack, running, control)
    assert text.count("It will run again.") == ROUNDS, text
    begun = parsed((attack.programs.folder / "log").read_text().splitlines())
    assert [event.number for event in begun] == [number for number in range(ROUNDS) for _ in range(2)]


SEVERAL = """
@ray.remote(max_retries=1)
def large(number):
    inside.tell("begun", number, "log")
    held = eat(150)
    time.sleep(0.5)  # at work
    return len(held) + number

@ray.remote(max_retries=1)
def small(number):
    return number

ray.get(small.remote(0))
baseline = inside.Baseline()
for number in range(int(sys.argv[2])):
    larges = [large.remote(i) for i in range(6)]
    smalls = [small.remote(i) for i in range(200)]
    assert ray.get(smalls) == list(range(200))
    assert ray.get(larges) == [30 + i for i in range(6)]
    inside.say(f"round {number}")
del larges, smalls
baseline.check(inside.journal_of(functions=1))
"""


def test_several_that_do_not_fit_together(attack: Attack) -> None:
    """Six tasks at once, of which two fit: all come to their end, by and by, and each result is right."""
    rounds = times(full=10, short=1)
    running, control = start(
        attack,
        SEVERAL + LAST_LOOK,
        str(rounds),
        memory_limit_bytes=LIMIT_MIB << 20,
        memory_retry_limit=20,
    )
    stops = end(attack, running, control).count("It will run again.")
    begun = parsed((attack.programs.folder / "log").read_text().splitlines())
    assert len(begun) == 6 * rounds + stops
    attack.figure("stops for six tasks", stops / rounds, "stops", at_least=1, at_most=24)


ORDER = """
@ray.remote(max_retries=1)
def older():
    inside.tell("begun", 0, "older")
    return hold()

@ray.remote(max_retries=1)
def newer():
    inside.tell("begun", 0, "newer")
    return hold()

@ray.remote(max_retries=0)
def once():
    inside.tell("begun", 0, "once")
    return hold()

@ray.remote
class Actor:
    def hold(self):
        self.held = eat(50)

    def grow(self):
        self.held += eat(4000)

def hold():
    held = eat(50)
    while not os.path.exists("release"):
        time.sleep(0.01)
    return len(held)

def begun(name):
    while not os.path.exists(name):
        time.sleep(0.01)

held = [older.remote()]
begun("older")
held.append(newer.remote())
begun("newer")
held.append(once.remote())
begun("once")
actor = Actor.remote()
ray.get(actor.hold.remote())
growing = actor.grow.remote()
error = inside.raised_by_get(held[2])
assert type(error) is ray.errors.OutOfMemoryError, repr(error)
told_why(error, "once")
error = inside.raised_by_get(growing)
assert type(error) is ray.errors.ActorOutOfMemoryError, repr(error)
assert isinstance(error, MemoryError) and isinstance(error, ray.errors.ActorDiedError)
told_why(error, "Actor")
assert type(inside.raised_by_get(actor.hold.remote())) is ray.errors.ActorOutOfMemoryError
open("release", "w").close()
assert ray.get(held[:2]) == [10, 10]
"""


def test_who_is_stopped_first(attack: Attack) -> None:
    running, control = start(
        attack, ORDER + LAST_LOOK, "prints", memory_limit_bytes=LIMIT_MIB << 20, memory_retry_limit=1000
    )
    text = end(attack, running, control)
    said = re.findall(r"^ray: '(\w+)[.\w]*' (?:in process \d+ was stopped|has no result)", text, re.MULTILINE)
    assert list(dict.fromkeys(said)) == ["newer", "older", "once", "Actor"], text
    begun = (attack.programs.folder / "once").read_text().splitlines()
    assert len(begun) == 1, "what must not run twice did"


RESTORED = """
@ray.remote(checkpoint_interval=1)
class Eater:
    def __init__(self):
        self.sum = 0

    def add(self, number):
        inside.tell("begun", number, "log")
        if number == 3 and not os.path.exists("eaten"):
            open("eaten", "w").close()
            eat(4000)
        self.sum += number
        return self.sum

eater, bystander = Eater.remote(), Eater.remote()
assert ray.get([bystander.add.remote(100)]) == [100]
assert ray.get([eater.add.remote(number) for number in range(1, 6)]) == [1, 3, 6, 10, 15]
assert ray.get([bystander.add.remote(100)]) == [200]
"""


def test_an_actor_with_checkpoints_that_eats(attack: Attack) -> None:
    running, control = start(attack, RESTORED + LAST_LOOK, memory_limit_bytes=LIMIT_MIB << 20)
    assert end(attack, running, control).count("It will run again.") == 1
    begun = parsed((attack.programs.folder / "log").read_text().splitlines())
    assert [event.number for event in begun] == [100, 1, 2, 3, 3, 4, 5, 100]


CHILD = '''
EATS = """
import time
held = []
while True:
    held.append(bytearray(b"x") * (5 << 20))
    time.sleep(0.005)
"""

@ray.remote(max_retries=0)
def parent():
    child = subprocess.Popen([sys.executable, "-c", EATS])
    inside.tell("child", child.pid, "log")
    return child.wait()

error = inside.raised_by_get(parent.remote())
assert type(error) is ray.errors.OutOfMemoryError, repr(error)
told_why(error, "parent")
child = int(open("log").read().split()[1])
deadline = time.monotonic() + 5
while os.path.exists(f"/proc/{child}") and time.monotonic() < deadline:
    time.sleep(0.01)
assert not os.path.exists(f"/proc/{child}")
'''


def test_a_child_of_a_task_that_eats(attack: Attack) -> None:
    running, control = start(attack, CHILD + LAST_LOOK, memory_limit_bytes=LIMIT_MIB << 20)
    end(attack, running, control)


@pytest.fixture
def cgroup() -> Iterator[MemoryCgroup]:
    """One that allows as much as LIMIT_MIB; skips where none can be made."""
    with MemoryCgroup(LIMIT_MIB << 20) as made:
        yield made


IN_A_CGROUP = """
@ray.remote(max_retries=0)
def eater():
    eat(4000, step=2)

@ray.remote
def alive():
    return os.getpid()

error = inside.raised_by_get(eater.remote())
if settings["memory_fraction"]:
    assert type(error) is ray.errors.OutOfMemoryError, repr(error)
    why = told_why(error, "eater")
    assert why.what.startswith("the cgroup at ") and why.limit_bytes == int(sys.argv[2]), why
else:
    assert type(error) is ray.errors.WorkerCrashedError and error.status == -9, repr(error)
assert ray.get(alive.remote()) > 0
"""


@pytest.mark.parametrize("fraction", [0.8, 0.0], ids=["monitor", "system"])
def test_in_a_cgroup(attack: Attack, cgroup: MemoryCgroup, fraction: float) -> None:
    """The monitor stops the eater before the system does; where nobody looks, the system takes a worker."""
    joins = f"open({str(cgroup.folder / 'cgroup.procs')!r}, 'w').write(str(__import__('os').getpid()))\n"
    running = attack.programs.start(
        joins + HEAD + IN_A_CGROUP + LAST_LOOK,
        json.dumps({"memory_fraction": fraction}),
        str(LIMIT_MIB << 20),
    )
    family = Family(running)
    assert running.line() == "ready"
    end(attack, running, {name: family.only(name) for name in CONTROL})
    attack.figure("killed by the system", cgroup.kills(), "processes", at_most=0 if fraction else None)
    assert cgroup.kills() == (0 if fraction else 1)


def test_whom_the_system_would_take_first(attack: Attack) -> None:
    """Workers and what they start before all others; none of the services before the driver."""
    running, control = start(attack, WORKERS + LAST_LOOK)
    worker, child = (int(pid) for pid in running.line().split())
    scores = [_score(pid) for pid in control.values()]
    assert max(scores) <= _score(running.pid) < _score(worker) == _score(child)
    (attack.programs.folder / "seen").touch()
    end(attack, running, control)


def _score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


WORKERS = """
@ray.remote
def worker():
    child = subprocess.Popen(["sleep", "60"])
    return os.getpid(), child.pid

print(*ray.get(worker.remote()), flush=True)
while not os.path.exists("seen"):
    time.sleep(0.01)
"""


def test_the_folder_is_gone(attack: Attack) -> None:
    """What `MemoryCgroup` makes it takes away again, with processes that came and went in it."""
    with MemoryCgroup(LIMIT_MIB << 20) as made:
        folder = made.folder
        assert (folder / "cgroup.procs").read_text() == ""
    assert not Path(folder).exists()
