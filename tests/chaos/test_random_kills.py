"""Random processes of a running session are killed or stopped, while a driver checks every result.

`RAY_CHAOS_SEED` repeats a run.
"""

import os
import signal
import time
from collections import Counter

from tests.chaos.attack import Attack, times
from tests.session.family import Family

DURATION_S = times(full=60, short=6)
VICTIMS = ["ray-worker"] * 4 + ["ray-template", "ray-node", "valkey-server"]
STOP_MS = 300  # at most, then a stopped process goes on
STOPPED_SHARE = 0.2
# Deaths are plenty here; what they are tested for elsewhere, giving up, is not wanted.
DRIVER = """
import json, os, time
import ray

from tests.chaos import inside

settings = {"restart_limit": 1000, "lock_patience_ms": 100, "idle_worker_ms": 300}
print(json.dumps(ray.init(num_cpus=2, driver_mode=3, config=settings)), flush=True)

@ray.remote(max_retries=1000)
def double(x):
    time.sleep(0.002)
    return 2 * x

@ray.remote(max_retries=1000)
def total(*values):
    return sum(values)

@ray.remote(max_retries=1000)
def nested(count):
    return sum(ray.get([double.remote(i) for i in range(count)]))

def one_round():
    doubles = [double.remote(i) for i in range(20)]
    assert ray.get(total.remote(*doubles)) == 380
    assert ray.get(doubles) == [2 * i for i in range(20)]
    assert ray.get(nested.remote(5)) == 20

one_round()
baseline = inside.Baseline()
rounds = 0
while not os.path.exists("release"):
    one_round()
    rounds += 1
baseline.check()
inside.say(f"rounds {rounds}")
inside.done()
"""


def test_random_kills(attack: Attack) -> None:
    running = attack.programs.start(DRIVER)
    family = Family(running)
    hits: Counter[str] = Counter()
    deadline = time.monotonic() + DURATION_S
    while time.monotonic() < deadline and running.process.poll() is None:
        time.sleep(attack.random.uniform(0.02, 0.25))
        name = attack.random.choice(VICTIMS)
        pids = sorted(family.named(name))
        if not pids:
            continue  # it is just being started again
        victim = attack.random.choice(pids)
        try:
            if attack.random.random() < STOPPED_SHARE:
                os.kill(victim, signal.SIGSTOP)
                time.sleep(attack.random.uniform(0, STOP_MS / 1000))
                os.kill(victim, signal.SIGCONT)
                hits[f"{name} stopped"] += 1
            else:
                os.kill(victim, signal.SIGKILL)
                hits[f"{name} killed"] += 1
        except ProcessLookupError:
            continue
    (attack.programs.folder / "release").touch()
    rounds = [int(line.split()[1]) for line in attack.lines(running)]
    attack.finish(running)
    for name, count in sorted(hits.items()):
        attack.figure(name, count, "times")
    attack.figure("faults", sum(hits.values()), "times", at_least=DURATION_S)
    attack.figure("rounds of 28 checked tasks", rounds[-1], "rounds", at_least=1)
