"""Random processes of a running session are killed or stopped, while a driver checks every result.

`RAY_CHAOS_SECONDS` makes it longer, `RAY_CHAOS_SEED` repeats a run.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.programs import Programs
from tests.session.family import Family

DURATION_S = float(os.environ.get("RAY_CHAOS_SECONDS", "6"))
VICTIMS = ["ray-worker"] * 4 + ["ray-template", "ray-node", "valkey-server"]
STOP_MS = 300  # at most, then a stopped process goes on
STOPPED_SHARE = 0.2
# Deaths are plenty here; what they are tested for elsewhere, giving up, is not wanted.
DRIVER = """
import json, os, time
import ray

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

rounds = 0
while not os.path.exists("release"):
    doubles = [double.remote(i) for i in range(20)]
    assert ray.get(total.remote(*doubles)) == 380
    assert ray.get(doubles) == [2 * i for i in range(20)]
    assert ray.get(nested.remote(5)) == 20
    rounds += 1
arena = ray.core.session_state.current.arena
ray.get(double.remote(1))
assert arena.check() == [], arena.check()
print("rounds", rounds, flush=True)
"""


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as running:
        yield running


@pytest.mark.timeout(DURATION_S + 120)
def test_every_result_is_right_and_the_session_lives(programs: Programs) -> None:
    seed = int(os.environ.get("RAY_CHAOS_SEED", random.randrange(1 << 32)))
    print(f"RAY_CHAOS_SEED={seed}")
    rng = random.Random(seed)
    running = programs.start(DRIVER)
    family = Family(running)
    hits: Counter[str] = Counter()
    deadline = time.monotonic() + DURATION_S
    while time.monotonic() < deadline and running.process.poll() is None:
        time.sleep(rng.uniform(0.02, 0.25))
        name = rng.choice(VICTIMS)
        pids = sorted(family.named(name))
        if not pids:
            continue  # it is just being started again
        victim = rng.choice(pids)
        try:
            if rng.random() < STOPPED_SHARE:
                os.kill(victim, signal.SIGSTOP)
                time.sleep(rng.uniform(0, STOP_MS / 1000))
                os.kill(victim, signal.SIGCONT)
                hits[f"{name} stopped"] += 1
            else:
                os.kill(victim, signal.SIGKILL)
                hits[f"{name} killed"] += 1
        except ProcessLookupError:
            continue
    (programs.folder / "release").touch()
    done = running.finish(60)
    print(dict(hits), done.out[-100:])
    assert done.code == 0, done.both
    assert sum(hits.values()) > DURATION_S
