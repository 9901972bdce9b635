"""Tasks inside tasks, many threads, and fork bombs: done, or a typed error, and nothing that grows."""

import pytest

from tests.chaos.attack import Attack, times

PRELUDE = """
import json, os, sys, threading, time
import ray

from tests.chaos import inside

COUNT = int(sys.argv[1])
LIMIT = int(sys.argv[2]) if len(sys.argv) > 2 else 1024

def begin():
    inside.say("begins")
    return inside.Baseline()

def check(baseline):  # each worker keeps the functions that it has run
    baseline.check({"references": 4 * workers()})

def workers():
    return inside.arena().stats()["workers"]
"""

DEEP = """
ray.init(num_cpus=2, driver_mode=3, config={"worker_limit": LIMIT})

@ray.remote
def down(levels):
    return 1 + ray.get(down.remote(levels - 1)) if levels else 0

ray.get(down.remote(2))
baseline = begin()
for round in ("first", "second"):
    began = time.monotonic()
    done = []
    def run():
        done.append(ray.get(down.remote(COUNT)))
    runner = threading.Thread(target=run)
    runner.start()
    while runner.is_alive():
        runner.join(1)
        inside.say(f"{workers()} workers")
    assert done == [COUNT]
    inside.figure(f"so deep, the {round} time", time.monotonic() - began, "s")
inside.figure("workers", workers(), "processes", at_most=min(LIMIT, COUNT + 5))
check(baseline)
inside.done()
"""

THREADS = """
THREADS = 32
ray.init(num_cpus=2, driver_mode=3)

@ray.remote
def same(x):
    return x

@ray.remote
class Order:
    def __init__(self):
        self.seen = {}
    def add(self, who, number):
        assert self.seen.get(who, -1) == number - 1, (who, number)
        self.seen[who] = number
        return number
    def all(self):
        return self.seen

order = Order.remote()
ray.get([same.remote(0), order.all.remote()])
baseline = begin()
failures = []
calls = [0] * THREADS

def run(who):
    try:
        mine = order.add
        for first in range(0, COUNT, 100):
            ids = []
            for number in range(first, min(first + 100, COUNT)):
                ids.append(mine.remote(who, number // 10) if number % 10 == 0 else same.remote(number))
            expected = [n // 10 if n % 10 == 0 else n for n in range(first, first + len(ids))]
            if first % 200:
                assert ray.get(ids) == expected
            else:
                ready, others = ray.wait(ids, num_returns=len(ids))
                assert ready == ids and others == []
                assert ray.get(ready) == expected
            calls[who] += len(ids)
    except BaseException as error:
        failures.append(repr(error))
        raise

threads = [threading.Thread(target=run, args=(who,)) for who in range(THREADS)]
began = time.monotonic()
for thread in threads:
    thread.start()
for thread in threads:
    while thread.is_alive():
        thread.join(1)
        inside.say(f"{sum(calls)} calls")
assert failures == [], failures
assert ray.get(order.all.remote()) == {who: (COUNT - 1) // 10 for who in range(THREADS)}
inside.figure("calls of 32 threads", THREADS * COUNT / (time.monotonic() - began), "calls/s", at_least=500)
inside.figure("thread records left", inside.arena().stats()["threads"], "threads", at_most=40)
check(baseline)
inside.done()
"""

BOMB = """
ray.init(num_cpus=2, driver_mode=3, config={"worker_limit": LIMIT})

@ray.remote
def bomb(depth):
    return 1 + sum(ray.get([bomb.remote(depth - 1) for _ in range(3)])) if depth else 1

@ray.remote
def scatter(depth):  # waits for nobody
    return [scatter.remote(depth - 1) for _ in range(3)] if depth else []

def gathered(ids):
    return 1 + sum(gathered(each) for each in ray.get(ids))

ray.get([bomb.remote(1), scatter.remote(1)])
baseline = begin()
tasks = (3 ** (COUNT + 1) - 1) // 2
began = time.monotonic()
done = []
runner = threading.Thread(target=lambda: done.append(ray.get(bomb.remote(COUNT))))
runner.start()
while runner.is_alive():
    runner.join(1)
    inside.say(f"{workers()} workers")
assert done == [tasks], (done, tasks)
inside.figure("a tree of tasks that wait", tasks / (time.monotonic() - began), "tasks/s")
inside.figure("workers", workers(), "processes", at_most=LIMIT)
began = time.monotonic()
assert gathered([scatter.remote(COUNT)]) == tasks + 1
inside.figure("a tree of tasks that do not wait", tasks / (time.monotonic() - began), "tasks/s")
check(baseline)
inside.done()
"""

# Chains and trees that never end by themselves.  What their first task gets is an error; then the session is
# left, and nothing of it may be there (the harness looks).
WITHOUT_END = """
ray.init(num_cpus=2, driver_mode=3, config={"worker_limit": LIMIT})

@ray.remote(max_retries=0)
def chain():
    return ray.get(chain.remote())

@ray.remote(max_retries=0)
def tree():
    return ray.get([tree.remote() for _ in range(3)])

began = time.monotonic()
try:
    ray.get(chain.remote())
    raise AssertionError("it has no end")
except ray.errors.WorkerLimitError as error:
    assert error.limit == LIMIT
inside.figure("a chain without end: error after", time.monotonic() - began, "s", at_most=40)
held = tree.remote()
try:
    ray.get(held, timeout=COUNT)
    raise AssertionError("it has no end")
except (ray.errors.GetTimeoutError, ray.errors.WorkerLimitError):
    pass
assert workers() <= LIMIT
began = time.monotonic()
ray.shutdown()
inside.figure("left after", time.monotonic() - began, "s", at_most=2.5)
inside.done()
"""

# Each task leaves two more behind: the table of tasks fills up, and then they are told so.
FLOOD = """
ray.init(num_cpus=2, driver_mode=3)

@ray.remote(max_retries=0)
def flood():
    kept = [flood.remote() for _ in range(100)]

first = flood.remote()
assert ray.get(first) is None
began = time.monotonic()
while not (errors := ray.error_info()):
    inside.say(f"{inside.arena().stats()['tasks']} tasks")
    time.sleep(1)
assert {error["data"]["exception_type"] for error in errors} == {"ray.errors.TableFullError"}, errors[0]
inside.figure("flooded after", time.monotonic() - began, "s")
inside.figure("tasks", inside.arena().stats()["tasks"], "tasks", at_most=1 << 21)
inside.figure("workers", workers(), "processes", at_most=6)
assert ray.get(ray.put(1)) == 1  # others go on
began = time.monotonic()
ray.shutdown()
inside.figure("left after", time.monotonic() - began, "s", at_most=2.5)
inside.done()
"""


@pytest.mark.parametrize(
    ("levels", "limit"), [(times(full=1000, short=40), 1024), (times(full=1000, short=100), 24)]
)
def test_tasks_a_thousand_deep(attack: Attack, levels: int, limit: int) -> None:
    attack.run(PRELUDE + DEEP, str(levels), str(limit))


def test_32_threads_with_10_000_calls_each(attack: Attack) -> None:
    attack.run(PRELUDE + THREADS, str(times(full=10_000, short=200)))


def test_a_fork_bomb(attack: Attack) -> None:
    attack.run(PRELUDE + BOMB, str(times(full=9, short=5)), str(times(full=256, short=16)))


def test_a_fork_bomb_without_end(attack: Attack) -> None:
    attack.run(PRELUDE + WITHOUT_END, str(times(full=20_000, short=500)), str(times(full=64, short=4)))


@pytest.mark.skipif(times(full=0, short=1) == 1, reason="fills a table of two million tasks")
def test_a_flood_of_tasks_that_wait_for_nobody(attack: Attack) -> None:
    attack.run(PRELUDE + FLOOD, "0")
