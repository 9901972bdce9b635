"""Random processes of a running session are killed or stopped, while a driver checks every result.

`RAY_CHAOS_SEED` repeats a run's choices.
"""

import signal
import time
from collections import Counter

import pytest

from ray import _kernel
from tests.chaos.attack import Attack, percentile, times
from tests.chaos.targets import Targets
from tests.session.family import Family

KILLS = times(full=10_000, short=300)
LONGEST_S = times(full=900, short=15)  # that many kills take less even on a machine that is busy
PAUSE_S = 0.02  # at most, between two strikes
# Services take longer to come back than workers, and nothing new runs meanwhile.
VICTIMS = {"worker": 0.96, "template": 0.02, "node manager": 0.02}
KINDS = {"worker": _kernel.WORKER, "template": _kernel.TEMPLATE, "node manager": _kernel.NODE_MANAGER}
STOPPED_SHARE = 0.05
STOP_S = 0.3  # at most, then a stopped process goes on
MUTEX_MS = 100  # by then the mutex of a dead holder has passed on
# Deaths are plenty here; what they are tested for elsewhere, giving up, is not wanted.
DRIVER = """
import json, os, time
import ray

from tests.chaos import inside

settings = {"restart_limit": 1_000_000, "lock_patience_ms": 100, "idle_worker_ms": 300}
print(json.dumps(ray.init(num_cpus=3, driver_mode=3, config=settings)), flush=True)

@ray.remote(max_retries=1000)
def double(x):
    for size in range(0, 400, 20):  # many die inside a transaction
        ray.put(bytes(size))
    return 2 * x

@ray.remote(max_retries=1000)
def total(*values):
    return sum(values)

@ray.remote(max_retries=1000)
def nested(count):
    return sum(ray.get([double.remote(i) for i in range(count)]))

@ray.remote(max_retries=1000, num_returns=3)
def parts(x):
    return x, [ray.put(bytes([x]) * 20_000)], {"inner": double.remote(x)}

def one_round(x):
    doubles = [double.remote(i) for i in range(20)]
    whole, listed, inner = parts.remote(x)
    assert ray.get(total.remote(*doubles)) == 380
    assert ray.get(doubles) == [2 * i for i in range(20)]
    assert ray.get(nested.remote(5)) == 20
    assert ray.get(whole) == x
    assert ray.get(ray.get(listed)[0]) == bytes([x]) * 20_000
    assert ray.get(ray.get(inner)["inner"]) == 2 * x

one_round(1)
one_round(2)
baseline = inside.Baseline()
rounds = 0
said = time.monotonic()
inside.say("ready")
while not os.path.exists("release"):
    one_round(rounds % 200)
    rounds += 1
    inside.say(f"rounds {rounds}")
baseline.check(allow={"references": 6})
inside.done()
"""


@pytest.mark.quiet
def test_random_kills(attack: Attack) -> None:
    running = attack.programs.start(DRIVER)
    family = Family(running)
    assert running.line() == "ready"
    targets = Targets(family.arena())
    recoveries = targets.arena.stats()["recoveries"]
    hits: Counter[str] = Counter()
    waits_ms: list[float] = []
    deadline = time.monotonic() + LONGEST_S
    while len(waits_ms) < KILLS and time.monotonic() < deadline and running.process.poll() is None:
        time.sleep(attack.random.uniform(0, PAUSE_S))
        name = attack.random.choices(list(VICTIMS), list(VICTIMS.values()))[0]
        there = targets.of_kind(KINDS[name])
        if not there:
            continue  # it is just being started again
        victim = attack.random.choice(there)
        if attack.random.random() < STOPPED_SHARE:
            if victim.send(signal.SIGSTOP):
                time.sleep(attack.random.uniform(0, STOP_S))
                victim.send(signal.SIGCONT)
                hits[f"{name} stopped"] += 1
        elif victim.send(signal.SIGKILL):
            hits[f"{name} killed"] += 1
            waits_ms.append(1000 * targets.handed_on_s())
    (attack.programs.folder / "release").touch()
    rounds = sum(line.startswith("rounds ") for line in attack.lines(running))
    died_inside = targets.arena.stats()["recoveries"] - recoveries
    attack.finish(running)
    for name, count in sorted(hits.items()):
        attack.figure(name, count, "times")
    attack.figure("killed", len(waits_ms), "times", at_least=KILLS)
    attack.figure("died inside a transaction", died_inside, "times")
    attack.figure("mutex passed on, 99 of 100", percentile(waits_ms, 0.99), "ms")
    attack.figure("mutex passed on, slowest", max(waits_ms), "ms", at_most=MUTEX_MS)
    attack.figure("rounds of 30 checked results", rounds, "rounds", at_least=1)
