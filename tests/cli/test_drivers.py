"""Several drivers of one session: when one ends, in any way, what it had begun ends, and nobody else's."""

import os
import signal

import pytest

from tests.api.programs import Programs, wait_for
from tests.cli.head import Head
from tests.session.driver_ends import ENDS, WAIT, check_end_beside_another
from tests.session.family import name_of

# Something of every kind, none of which ends by itself.
BUSY = """
import os, subprocess, sys, time
import ray

@ray.remote
def forever():
    subprocess.Popen(["sleep", "1000"])
    while True:
        time.sleep(1)

@ray.remote
def after(_):
    return 1

@ray.remote
def brief():
    time.sleep(0.01)

@ray.remote
class Keeps:
    def __init__(self):
        self.kept = ray.put(bytes(1 << 20))

    def itself(self, me):
        self.me = me
        return os.getpid()

    def hang(self):
        time.sleep(1000)

ray.init(redis_address=sys.argv[1])
actor = Keeps.remote()
ray.get(actor.itself.remote(actor))
actor.hang.remote()
running = forever.remote()
waiting = [after.remote(running) for _ in range(100)]
queued = [brief.remote() for _ in range(2000)]
value = ray.put(bytes(8 << 20))
while ray.available_resources()["CPU"]:  # the actor and a task have one each
    time.sleep(0.01)
print("begun", flush=True)
"""
QUIET = """
import os, sys, time
import ray

@ray.remote
def one():
    return 1

@ray.remote
class Counter:
    def __init__(self):
        self.count = 0

    def add(self):
        self.count += 1
        return self.count, os.getpid()

ray.init(redis_address=sys.argv[1])
counter = Counter.options(num_cpus=0).remote()
first, pid = ray.get(counter.add.remote())
print("here", flush=True)
calls = 1
while not os.path.exists("release"):
    assert ray.get(counter.add.remote())[1] == pid
    calls += 1
    time.sleep(0.005)
assert ray.get(counter.add.remote()) == (calls + 1, pid)
assert ray.get([one.remote() for _ in range(100)]) == [1] * 100
assert ray.error_info() == []
print("undisturbed")
"""


def idle(head: Head, actors: int) -> bool | None:
    now = head.status()
    cpus = now["resources"]["CPU"]
    unused = cpus["used"] == 0 and not now["running_tasks"] and not now["ready_tasks"]
    return (unused and now["actors"] == actors and now["store_used_bytes"] < 1 << 20) or None


@pytest.mark.parametrize("end", ENDS)
def test_the_end_of_one_is_not_felt_by_another(programs: Programs, head: Head, end: str) -> None:
    check_end_beside_another(
        programs,
        programs.start(QUIET, head.address),
        lambda tail: programs.start(BUSY + tail, head.address),
        end,
        lambda: idle(head, actors=1),
        head.status,
    )


WAITER = """
import sys, time
import ray

ray.init(redis_address=sys.argv[1])
shared = ray.ObjectID(bytes.fromhex(sys.argv[2]))
print("waiting", flush=True)
try:
    ray.get(shared)
except ray.errors.JobEndedError as error:
    print(error)
"""
SHARER = """
import sys, time
import ray

@ray.remote
def forever():
    while True:
        time.sleep(1)

ray.init(redis_address=sys.argv[1])
shared = forever.remote()
print(shared.hex(), flush=True)
while True:
    time.sleep(1)
"""


def test_who_waits_for_a_result_of_an_ended_driver_is_told(programs: Programs, head: Head) -> None:
    sharer = programs.start(SHARER, head.address)
    waiter = programs.start(WAITER, head.address, sharer.line())
    assert waiter.line() == "waiting"
    sharer.send(signal.SIGKILL)
    sharer.finish()
    assert "'forever' has no result" in waiter.line()
    assert waiter.finish().code == 0


def test_the_end_of_a_job_outlives_its_node_manager(programs: Programs, head: Head) -> None:
    """Whoever takes the place of a killed one ends what it had not come to."""
    busy = programs.start(BUSY + WAIT, head.address)
    assert busy.line() == "begun"
    # It comes up after the first tasks have begun.
    manager = wait_for(
        lambda: next((pid for pid in programs.left() if name_of(pid) == "ray-node"), None), 10.0
    )
    assert manager is not None
    os.kill(manager, signal.SIGKILL)
    busy.send(signal.SIGKILL)
    busy.finish()
    assert wait_for(lambda: idle(head, actors=0), 10.0), head.status()


OWNER = """
import sys, threading, time
import ray

@ray.remote
def forever():
    while True:
        time.sleep(1)

@ray.remote(num_cpus=0)
class Shared:
    def count(self):
        return 1

    def begin_beside(self):
        thread = threading.Thread(target=forever.remote)
        thread.start()
        thread.join()

ray.init(redis_address=sys.argv[1])
actor = Shared.remote()
ray.get([actor.count.remote(), actor.begin_beside.remote()])
shared = ray.put([actor])
print(shared.hex(), flush=True)
while True:
    time.sleep(1)
"""
CALLER = """
import sys
import ray

ray.init(redis_address=sys.argv[1])
(actor,) = ray.get(ray.ObjectID(bytes.fromhex(sys.argv[2])))
print("calling", ray.get(actor.count.remote()), flush=True)
try:
    while True:
        ray.get([actor.count.remote() for _ in range(10)])
except ray.errors.JobEndedError as error:
    print(error, flush=True)
"""


def test_an_actor_goes_with_its_driver_however_busy_others_keep_it(programs: Programs, head: Head) -> None:
    """And so does what its threads have begun."""
    owner = programs.start(OWNER, head.address)
    caller = programs.start(CALLER, head.address, owner.line())
    assert caller.line() == "calling 1"
    owner.send(signal.SIGKILL)
    owner.finish()
    assert "has ended" in caller.line()
    assert caller.finish().code == 0
    assert wait_for(lambda: idle(head, actors=0), 10.0), head.status()
