"""Ctrl-C at random moments of every call, and of the session's end."""

import os
import signal
import time

import pytest

import ray
from tests.chaos.attack import Attack, percentile, times

PROMPT_MS = 200  # for 99 of 100
ENDED_S = 2.0
PACKAGE = os.path.dirname(ray.__file__)

DRIVER = """
import os, pickle, sys, threading, time
import numpy
import ray

from tests.chaos import inside
from tests.chaos.strikes import Striker

COUNT, SEED = int(sys.argv[1]), int(sys.argv[2])
ray.init(num_cpus=2, driver_mode=3)

@ray.remote
def same(x):
    return x

@ray.remote(num_cpus=0)
def never(path):
    while not os.path.exists(path):
        time.sleep(0.01)

@ray.remote
class Counter:
    def __init__(self, first=0):
        self.count = 0
    def add(self, more):
        self.count += 1
        return more

PATH = os.path.abspath("release")
LARGE = numpy.arange(4 << 20)  # 32 MiB
LARGEST = numpy.zeros(24 << 20)  # 192 MiB
MIDDLE = list(range(1000))
counter = Counter.remote()
small, large = ray.put(1), ray.put(LARGE)
held = never.remote(PATH)
ready = [same.remote(i) for i in range(300)]
open(PATH, "w").close()
ray.get([counter.add.remote(1), Counter.remote().add.remote(2), *ready, held])
os.unlink(PATH)

def get_one_to_come():
    ray.get(held)

def get_many_to_come():
    ray.get([*ready[:50], held])

def get_with_time():
    try:
        ray.get(held, timeout=1)
    except ray.errors.GetTimeoutError:
        pass

def get_what_is_there():
    assert ray.get(small) == 1
    assert ray.get(large)[-1] == LARGE[-1]
    assert ray.get(ready[:20]) == list(range(20))

def wait_for_one():
    ray.wait([held])

def wait_for_many():
    ray.wait([*ready, held], num_returns=301)

def wait_with_time():
    assert len(ray.wait([*ready, held], num_returns=301, timeout=1)[0]) == 300

def put_small():
    ray.put(1)
    ray.put({"ids": [small, large]})

def put_large():
    ray.put(LARGE)

def put_largest():
    ray.put(LARGEST)

def call_tasks():
    same.remote(1)
    same.remote(small)
    same.remote([small, large])
    same.remote(MIDDLE)

def call_actor():
    counter.add.remote(1)
    counter.add.remote([small])
    counter.add.remote(MIDDLE)

def make_actor():
    Counter.remote(MIDDLE).add.remote(1)

def get_results():
    assert ray.get(same.remote(7)) == 7
    assert ray.get(counter.add.remote(8)) == 8

ACTS = [get_one_to_come, get_many_to_come, get_with_time, get_what_is_there, wait_for_one, wait_for_many,
        wait_with_time, put_small, put_large, put_largest, call_tasks, call_actor, make_actor, get_results]

class Others:  # threads with calls of their own, which no Ctrl-C may disturb
    def __init__(self, count):
        self.stopping = False
        self.failures = []
        self.rounds = 0
        self.threads = [threading.Thread(target=self.run) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self):
        try:
            while not self.stopping:
                assert ray.get(same.remote(self.rounds)) is not None
                ray.put([small])
                assert ray.wait([held], timeout=1) == ([], [held])
                self.rounds += 1
        except BaseException as error:
            self.failures.append(error)

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join()
        assert self.failures == [], self.failures
        assert self.rounds > 0

def session_works(number):
    assert ray.get(same.remote(number)) == number
    assert ray.get(counter.add.remote(number)) == number

session_works(0)
baseline = inside.Baseline()
held = never.remote(PATH)
times_ms = []
with Striker(SEED, 0.008) as striker:
    others = None
    for number in range(COUNT):
        if number == COUNT // 2:
            others = Others(3)
        act = ACTS[number % len(ACTS)]
        took_ms = 1000 * striker.strike(act)
        times_ms.append(took_ms)
        inside.say(f"struck {took_ms} {act.__name__}")
        session_works(number)
    others.stop()
    del others

    # The first call of a function puts it into the session: one that was interrupted goes well the next time.
    new_function = ray.remote(lambda x: x + 1)
    def call_new_function():
        global new_function, made
        new_function = ray.remote(lambda x: x + 1)
        made += 1
        new_function.remote(1)

    made = 0
    for number in range(COUNT // 10):
        took_ms = 1000 * striker.strike(call_new_function)
        times_ms.append(took_ms)
        inside.say(f"struck {took_ms} {call_new_function.__name__}")
        assert ray.get(new_function.remote(number)) == number + 1
        session_works(number)
    del new_function
open(PATH, "w").close()
ray.get([same.remote(0), counter.add.remote(0), held])
baseline.check(inside.journal_of(functions=made))
assert ray.error_info() == []
inside.done()
"""

# An atexit callback that is registered later runs earlier: it says that the exit begins.
EXITS = """
import atexit, json, os, sys, time
import ray

@ray.remote
def nap(seconds):
    time.sleep(seconds)
    return os.getpid()

print(json.dumps(ray.init(num_cpus=2)), flush=True)
print(ray.get(nap.remote(0)), flush=True)
busy = [nap.remote(1000) for _ in range(3)]
atexit.register(os.write, 1, b"exits\\n")
"""

SHUTDOWNS = """
import os, sys
import ray

from tests.chaos import inside
from tests.chaos.strikes import Striker

COUNT, SEED = int(sys.argv[1]), int(sys.argv[2])

@ray.remote
def same(x):
    return x

def in_and_out():
    ray.shutdown()
    ray.init(num_cpus=1, driver_mode=3)
    assert ray.get(same.remote(3)) == 3

def settled():
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

in_and_out()
with Striker(SEED, 0.25) as striker:
    before = settled()
    for number in range(COUNT):
        took_ms = 1000 * striker.strike(in_and_out)
        inside.say(f"struck {took_ms} in_and_out")
        ray.shutdown()
        ray.init(num_cpus=1, driver_mode=3)
        assert ray.get(same.remote(number)) == number
        assert settled() == before, (before, settled())
ray.shutdown()
inside.done()
"""


@pytest.mark.quiet
def test_ctrl_c_at_random_moments(attack: Attack) -> None:
    running = attack.programs.start(DRIVER, str(times(full=1000, short=80)), str(attack.seed))
    took = [line.split() for line in attack.lines(running) if line.startswith("struck")]
    done = attack.finish(running)
    assert done.err == ""
    times_ms = [float(ms) for _, ms, _ in took]
    attack.figure("interrupts", len(times_ms), "times")
    attack.figure("KeyboardInterrupt after, median", percentile(times_ms, 0.5), "ms")
    attack.figure("KeyboardInterrupt after, p99", percentile(times_ms, 0.99), "ms", at_most=PROMPT_MS)


def test_ctrl_c_while_sessions_start_and_end(attack: Attack) -> None:
    running = attack.programs.start(SHUTDOWNS, str(times(full=100, short=4)), str(attack.seed))
    took_ms = [float(line.split()[1]) for line in attack.lines(running) if line.startswith("struck")]
    done = attack.finish(running)
    assert done.err == ""
    # The end of a session is not left half-way: the interrupt comes when it is over.
    attack.figure("KeyboardInterrupt after, at most", max(took_ms), "ms", at_most=1000 * ENDED_S)


@pytest.mark.parametrize("how_often", [1, 5])
def test_ctrl_c_at_exit(attack: Attack, how_often: int) -> None:
    longest_s = 0.0
    for _ in range(times(full=100, short=4)):
        running = attack.programs.start(EXITS)
        running.line()
        running.line()
        assert running.line() == "exits"
        for _ in range(how_often):
            time.sleep(attack.random.uniform(0, 0.03))
            try:
                os.killpg(running.pid, signal.SIGINT)
            except ProcessLookupError:
                break  # gone already
        began = time.monotonic()
        done = running.finish()
        assert attack.programs.gone(), done.both
        longest_s = max(longest_s, time.monotonic() - began)
        # One may hit the interpreter's own teardown, before or after ours.
        assert PACKAGE not in done.err, done.both
        assert "atexit" not in done.err, done.both
    attack.figure("gone after, at most", 1000 * longest_s, "ms", at_most=1000 * ENDED_S)
