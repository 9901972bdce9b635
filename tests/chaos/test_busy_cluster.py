"""A cluster with four times as many tasks that compute as the machine has CPUs: nobody is taken for dead.

`make soak` runs it for half an hour, or SOAK_SECONDS if that is less.
"""

import os
import time
from collections import deque
from typing import Any

import pytest

import ray
from ray.testing import LocalCluster
from tests.chaos.attack import FULL, Attack
from tests.cluster.events import PATIENCE_MS, deaths, log_of_manager, manager_of, wait_until_spread

NODES = 3
LOAD = 4  # tasks that compute at a time, for each CPU of the machine
CI_S, CHAOS_S, SOAK_S = 6.0, 60.0, 1800.0
BUSY_S = min(SOAK_S, float(os.environ.get("SOAK_SECONDS") or (CHAOS_S if FULL else CI_S)))
TASK_S = 0.2
PROGRESS_S = 10.0
# What a node manager says when it, or another, was taken for dead or cut off.
ALARMS = (" is dead: ", "does nothing for others any more", "was declared dead")


@ray.remote
def computes(number: int) -> tuple[int, str]:
    until = time.monotonic() + TASK_S
    while time.monotonic() < until:
        pass
    return number, os.environ["RAY_SESSION"]


@pytest.mark.timeout(BUSY_S + 120)
def test_busy_load_is_no_death(attack: Attack) -> None:
    slots = -(-LOAD * (os.cpu_count() or 1) // NODES)
    with LocalCluster(NODES, num_cpus=slots) as cluster:
        ray.init(redis_address=cluster.address)
        try:
            wait_until_spread(cluster.nodes)
            managers = [manager_of(node) for node in cluster.nodes]
            done, places, longest_s = _keep_busy(2 * NODES * slots)
            assert [manager_of(node) for node in cluster.nodes] == managers
            alarms = [
                line
                for node in cluster.nodes
                for line in log_of_manager(node).splitlines()
                if any(alarm in line for alarm in ALARMS)
            ]
            assert places == {node.record.token for node in cluster.nodes}
            attack.figure("tasks done", done, "tasks", at_least=NODES * slots)
            attack.figure("longest time without a result", longest_s, "s")
            attack.figure("nodes declared dead", len(deaths(cluster)), "nodes", at_most=0)
            assert not alarms
        finally:
            ray.shutdown()


def _keep_busy(under_way: int) -> tuple[int, set[str], float]:
    """For `BUSY_S` so many tasks run or wait. How many were done, where, and how long none was."""
    began = last = time.monotonic()
    progress_at = began + PROGRESS_S
    tasks: deque[Any] = deque(computes.remote(number) for number in range(under_way))
    submitted, done, longest_s = under_way, 0, 0.0
    places = set()
    while tasks:
        number, place = ray.get(tasks.popleft(), timeout=6 * PATIENCE_MS)
        assert number == done
        now = time.monotonic()
        longest_s, last = max(longest_s, now - last), now
        done += 1
        places.add(place)
        if now < began + BUSY_S:
            tasks.append(computes.remote(submitted))
            submitted += 1
        if now >= progress_at:
            print(f"{now - began:6.0f} s  {done} tasks done, longest time without a result {longest_s:.1f} s")
            progress_at = now + PROGRESS_S
    return done, places, longest_s
