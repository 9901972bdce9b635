"""Large numbers of everything: tasks queued, arguments, returns, objects got, ids waited for."""

import pytest

from tests.chaos.attack import FULL, Attack, times

PRELUDE = """
import json, os, sys, threading, time
import ray

from tests.chaos import inside

COUNT = int(sys.argv[1])
ray.init(num_cpus=2, driver_mode=3)

@ray.remote
def same(x):
    return x

@ray.remote
def hold(path):
    while not os.path.exists(path):
        time.sleep(0.01)

@ray.remote
def together(*values):
    return len(values), sum(values)

def hold_all_cpus():
    holds = [hold.remote(os.path.abspath("release")) for _ in range(2)]
    while inside.arena().stats()["running_tasks"] < 2:
        time.sleep(0.01)
    return holds

def let_go():
    open("release", "w").close()

def seconds_of(what):
    began = time.monotonic()
    what()
    return time.monotonic() - began

def arena_bytes():  # of its pages that have ever been touched
    return os.fstat(inside.arena().fd).st_blocks * 512

def own_bytes():  # without the arena, which is shared memory
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

def hold_and_let_go():
    holds = hold_all_cpus()
    let_go()
    ray.get(holds)
    os.unlink("release")

def begin():  # with all functions exported
    hold_and_let_go()
    ray.get([same.remote(0), together.remote(same.remote(1))])
    inside.say("begins")
    return inside.Baseline()
"""

# The second round finds everything as the first one left it: no page more, but for what the first one's
# last moments left to chance.
QUEUED = """
baseline = begin()
STEP = 10_000

def queue_and_drain(ids):
    holds = hold_all_cpus()
    before = arena_bytes(), own_bytes()

    def submit():
        for index in range(COUNT):
            ids[index] = same.remote(index)

    submitting_s = seconds_of(submit)
    assert inside.arena().stats()["ready_tasks"] == COUNT
    taken = arena_bytes() - before[0], own_bytes() - before[1]
    let_go()
    inside.say("queued")

    def drain():
        for first in range(0, COUNT, STEP):
            part = slice(first, min(first + STEP, COUNT))
            assert ray.get(ids[part]) == list(range(COUNT))[part]
            inside.say(f"got {first}")

    draining_s = seconds_of(drain)
    ray.get(holds)
    os.unlink("release")
    ids[:] = [None] * COUNT
    return submitting_s, draining_s, *taken

ids = [None] * COUNT
submitting_s, draining_s, arena_taken, own_taken = queue_and_drain(ids)
arena_first = arena_bytes()
inside.figure("queued", COUNT, "tasks")
inside.figure("submitted", COUNT / submitting_s, "tasks/s", at_least=5_000)
inside.figure("drained and got", COUNT / draining_s, "tasks/s", at_least=5_000)
inside.figure("arena, per queued task", arena_taken / COUNT, "B")
inside.figure("driver, per queued task", own_taken / COUNT, "B")
inside.figure("memory per queued task", (arena_taken + own_taken) / COUNT, "B", at_most=1024)
queue_and_drain(ids)
grown = arena_bytes() - arena_first
inside.figure("arena grown in a second round", grown / COUNT, "B/task", at_most=16)
baseline.check()
inside.done()
"""

# More than the table of tasks holds: the driver waits for room in the middle of its submissions.
BEYOND_THE_TABLE = """
baseline = begin()
EXTRA = 100_000
holds = hold_all_cpus()
full = []

def release_once_full():
    while inside.arena().stats()["tasks"] < COUNT:
        time.sleep(0.05)
        inside.say("filling")
    full.append(inside.arena().stats()["tasks"])
    let_go()

releaser = threading.Thread(target=release_once_full)
releaser.start()
ids = []
submitting_s = seconds_of(lambda: ids.extend(same.remote(index) for index in range(COUNT + EXTRA)))
releaser.join()
for first in range(0, len(ids), 10_000):
    values = ray.get(ids[first : first + 10_000])
    assert values == list(range(first, first + len(values)))
    inside.say("got")
ray.get(holds)
inside.figure("tasks in the full table", full[0], "tasks", at_least=COUNT)
inside.figure("submitted, the wait for room included", len(ids) / submitting_s, "tasks/s")
del ids, values, holds
os.unlink("release")
baseline.check()
inside.done()
"""

MANY_IDS = """
@ray.remote(max_retries=0)
def fails(really=True):
    if really:
        raise ValueError("the one that fails")

@ray.remote
def in_order(*values):
    return list(values)

@ray.remote
def count_inside(value):
    first, rest = value
    return sum(ray.get(first)) + sum(ray.get(rest["more"]))

ray.get([fails.remote(False), in_order.remote(), count_inside.remote([[], {"more": []}])])
baseline = begin()

def all_of_them(many):
    return [same.remote(index) for index in range(many)]

def run():
    assert ray.get(together.remote(*all_of_them(COUNT))) == (COUNT, COUNT * (COUNT - 1) // 2)

inside.figure("one task with so many ids, end to end", 1000 * seconds_of(run), "ms", at_most=10_000)
holds = hold_all_cpus()  # so that they are still to come when the task is made
waits = together.remote(*all_of_them(COUNT))
let_go()
assert ray.get(waits) == (COUNT, COUNT * (COUNT - 1) // 2)
ray.get(holds)

ids = all_of_them(COUNT)
assert ray.get(in_order.remote(*ids)) == list(range(COUNT))
ids[COUNT // 2] = fails.remote()
try:
    ray.get(together.remote(*ids))
    raise AssertionError("it must fail")
except ValueError as error:
    assert "the one that fails" in str(error)
inside.say("a failure among them")
nested = [list(ids[:COUNT // 2]), {"more": ids[COUNT // 2 + 1:]}]
assert ray.get(count_inside.remote(nested)) == COUNT * (COUNT - 1) // 2 - COUNT // 2
del ids, nested, waits, holds
baseline.check(inside.journal_of(errors=2))
inside.done()
"""

MANY_RETURNS = """
@ray.remote(num_return_vals=COUNT)
def many():
    return list(range(COUNT))

@ray.remote(num_return_vals=COUNT)
def too_few():
    return list(range(COUNT - 1))

@ray.remote(num_return_vals=COUNT, max_retries=0)
def dies(status):
    if status:
        os._exit(status)
    return [0] * COUNT

ray.get(many.remote() + dies.remote(0))
baseline = begin()
ids = too_few.remote()
assert all(isinstance(inside.raised_by_get(oid), ray.errors.WrongReturnCountError) for oid in ids)
del ids
inside.say("too few")
assert all(isinstance(inside.raised_by_get(oid), ray.errors.WorkerCrashedError) for oid in dies.remote(1))
inside.say("died")
left = inside.journal_of(errors=2, functions=1)
baseline.check(left)

def run():
    for each in range(10):
        assert ray.get(many.remote()) == list(range(COUNT))

inside.figure("so many returns, ten times", 1000 * seconds_of(run), "ms", at_most=10_000)
ids = many.remote()
assert ray.get(together.remote(*ids)) == (COUNT, COUNT * (COUNT - 1) // 2)
del ids
baseline.check(left)
inside.done()
"""

MANY_OBJECTS = """
import numpy

baseline = begin()
SIZES = [0, 1, 100, 4_000, 5_000, 20_000]

def bytes_of(index):
    return bytes([index % 251]) * SIZES[index % len(SIZES)]

def array_of(index):
    return numpy.full(SIZES[index % len(SIZES)] // 8, index, dtype=numpy.int64)

before = own_bytes()
ids = [ray.put((bytes_of if index % 2 else array_of)(index)) for index in range(COUNT)]
inside.say("put")
values = []
took_s = seconds_of(lambda: values.extend(ray.get(ids)))
inside.figure("get of so many objects", 1000 * took_s, "ms", at_most=10_000)
inside.figure("driver, per object got", (own_bytes() - before) / COUNT, "B", at_most=10_000)
for index, value in enumerate(values):
    if index % 2:
        assert value == bytes_of(index)
    else:
        assert (value == array_of(index)).all() and not value.flags.writeable
backwards = ray.get(ids[::-1])
assert all((here == there).all() if type(here) is numpy.ndarray else here == there
           for here, there in zip(values, reversed(backwards)))
del values, backwards, value
taken = [same.remote(oid) for oid in ids]  # as arguments, in the order of the list
inside.say("taken")
for index, value in enumerate(ray.get(taken)):
    assert bytes(value) == bytes(bytes_of(index) if index % 2 else array_of(index)), index
del ids, taken, value
baseline.check()
inside.done()
"""

MANY_WAITED_FOR = """
baseline = begin()
holds = hold_all_cpus()
ids = [same.remote(index) for index in range(COUNT)]
inside.say("queued")

def nothing_yet():
    ready, others = ray.wait(ids, num_returns=COUNT, timeout=200)
    assert ready == [] and others == ids

inside.figure("wait over so many, in vain for 200 ms", 1000 * seconds_of(nothing_yet), "ms", at_most=10_000)
threading.Timer(0.2, let_go).start()

def all_at_last():
    ready, others = ray.wait(ids, num_returns=COUNT)
    assert ready == ids and others == []

inside.figure("wait until all so many are done", 1000 * seconds_of(all_at_last), "ms", at_most=20_000)
ray.get(holds)
seen = []

def one_by_one():
    left = ids
    for _ in range(200):
        (ready,), left = ray.wait(left)
        seen.append(ready)

inside.figure("one popped of so many", 1000 * seconds_of(one_by_one) / 200, "ms", at_most=200)
assert seen == ids[:200]
half = ray.wait(ids, num_returns=COUNT // 2)
assert half == (ids[: COUNT // 2], ids[COUNT // 2 :])
assert ray.get(ids) == list(range(COUNT))
del ids, seen, half, holds
baseline.check()
inside.done()
"""


def test_a_million_queued_tasks(attack: Attack) -> None:
    attack.run(PRELUDE + QUEUED, str(times(full=1_000_000, short=50_000)))


@pytest.mark.skipif(
    not FULL, reason="a table of two million entries; tests/core/test_store.py has a small one"
)
def test_more_queued_tasks_than_the_table_holds(attack: Attack) -> None:
    attack.run(PRELUDE + BEYOND_THE_TABLE, str((1 << 21) - 10))


def test_one_task_with_ten_thousand_ids(attack: Attack) -> None:
    attack.run(PRELUDE + MANY_IDS, str(times(full=10_000, short=2_000)))


def test_a_task_with_three_thousand_returns(attack: Attack) -> None:
    attack.run(PRELUDE + MANY_RETURNS, str(times(full=3_000, short=500)))


def test_get_of_ten_thousand_objects(attack: Attack) -> None:
    attack.run(PRELUDE + MANY_OBJECTS, str(times(full=10_000, short=2_000)))


def test_wait_over_a_hundred_thousand_ids(attack: Attack) -> None:
    attack.run(PRELUDE + MANY_WAITED_FOR, str(times(full=100_000, short=20_000)))
