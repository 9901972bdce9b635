"""Workers are killed in the middle of a task, while others work: it runs again, or fails, and never twice.

A victim spends its first attempt in calls of the store until it is killed, so that many die inside a
transaction.  Whether an attempt ran is told by itself, through a pipe.
"""

import os
import signal
import time

import pytest

from tests.chaos.attack import Attack, percentile, times
from tests.chaos.events import Events
from tests.session.family import Family

KILLS = times(full=1000, short=150)
LONGEST_LIFE_S = 0.005  # of a victim, from its start to the strike
NOTICED_MS = 50  # at 99 of 100 deaths
AGAIN_MS = 500  # always
DRIVER = """
import json, os, sys, threading, time
import ray

from tests.chaos import inside

kills, retries = int(sys.argv[1]), int(sys.argv[2])
info = ray.init(num_cpus=3, driver_mode=3, config={"idle_worker_ms": 300})
print(json.dumps(info), flush=True)

@ray.remote
def work(x):
    return x + sum(range(20_000))

@ray.remote(max_retries=retries)
def victim(number):
    first = inside.arena().attempt() == 0
    inside.tell("begun" if first else "again", number)
    while first and number >= 0:
        ray.put(bytes(50))
        ray.put(bytes(3000))
        sum(range(1000))
    return number, os.getpid()

def load():
    expected = sum(range(20_000))
    number = 0
    ahead = []
    while not over.is_set():
        ahead.append((number, work.remote(number)))
        number += 1
        if len(ahead) == 16:
            x, oid = ahead.pop(0)
            assert ray.get(oid) == x + expected
    assert ray.get([oid for _, oid in ahead]) == [x + expected for x, _ in ahead]
    finished.append(number)

over = threading.Event()
finished = []
ray.get([victim.remote(-1) for _ in range(3)] + [work.remote(0) for _ in range(3)])
baseline = inside.Baseline()
thread = threading.Thread(target=load)
thread.start()
for number in range(kills):
    oid = victim.remote(number)
    if retries:
        result = ray.get(oid)
        inside.tell("result", number)
        assert result[0] == number, result
        assert ray.get(oid) == result, "a result was seen to change"
        inside.say(f"{number} {result[1]}")
    else:
        try:
            raise AssertionError(f"a killed task has a result: {ray.get(oid)}")
        except ray.errors.WorkerCrashedError as error:
            inside.tell("result", number)
            assert (error.status, error.attempts) == (-9, 1), error
        inside.say(f"{number} 0")
    del oid
over.set()
thread.join()
assert finished, "the load failed"
inside.say(f"tasks {finished[0]}")
inside.tell("over", 0)
baseline.check(allow={"references": 3})
inside.done()
"""


@pytest.mark.quiet
@pytest.mark.parametrize("retries", [3, 0], ids=["run_again", "never_twice"])
def test_worker_killed_in_mid_task(attack: Attack, retries: int) -> None:
    with Events(attack.programs.folder) as events:
        running = attack.programs.start(DRIVER, str(KILLS), str(retries))
        Family(running)
        killed: dict[int, int] = {}  # when each victim was
        while (event := events.next(running)).kind != "over":
            if event.kind == "begun" and event.number >= 0:
                assert event.number not in killed, "it was the first attempt already"
                time.sleep(attack.random.uniform(0, LONGEST_LIFE_S))
                killed[event.number] = time.monotonic_ns()
                os.kill(event.pid, signal.SIGKILL)
        lines = [line.split() for line in attack.lines(running)]
        attack.finish(running)
    ran_again = {event.number: event for event in events.seen if event.kind == "again"}
    results = [event for event in events.seen if event.kind == "result"]
    assert [event.number for event in results] == list(range(KILLS)), "each result was visible once"
    assert sorted(killed) == list(range(KILLS))
    told = [(event.kind, event.number) for event in events.seen if event.number >= 0]
    assert len(told) == len(set(told)), "a task ran more often than it was killed"
    if retries:
        again_ms = [(ran_again[number].when_ns - when) / 1e6 for number, when in killed.items()]
        by = {int(number): int(pid) for number, pid in lines[:KILLS]}
        assert by == {number: event.pid for number, event in ran_again.items()}
        attack.figure("run again, median", percentile(again_ms, 0.5), "ms")
        attack.figure("run again, slowest", max(again_ms), "ms", at_most=AGAIN_MS)
    else:
        assert ran_again == {}
        noticed_ms = [(event.when_ns - killed[event.number]) / 1e6 for event in results]
        attack.figure("noticed, median", percentile(noticed_ms, 0.5), "ms")
        attack.figure("noticed, 99 of 100", percentile(noticed_ms, 0.99), "ms", at_most=NOTICED_MS)
    attack.figure("killed", len(killed), "times")
    attack.figure("tasks beside", float(lines[-1][1]), "tasks", at_least=KILLS)
