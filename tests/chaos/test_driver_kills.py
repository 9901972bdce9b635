"""Drivers are killed at random moments, while their tasks start processes of their own; nothing may be left.

What the tasks start sleeps for a number of seconds that nobody else sleeps for: so it is found whoever its
parent is by now, and whatever it has made of its environment.
"""

import os
import time
from pathlib import Path

from tests import leaks
from tests.api.programs import GONE_S, Programs, command, wait_for
from tests.chaos.attack import Attack, percentile, times, wait_until

KILLS = times(full=200, short=6)
START_EACH = 4  # one in so many is killed while it starts
STARTS_WITHIN_S = 1.0
LONGEST_LIFE_S = 0.3  # after their tasks have begun
DRIVER = """
import json, os, subprocess, sys, time
import ray

seconds = sys.argv[1]
ray.init(num_cpus=2, driver_mode=3)

@ray.remote
def starts_more():
    while True:  # a child, a grandchild whose parent has ended, and one that has nothing of ours
        subprocess.Popen(["sleep", seconds])
        subprocess.run(["sh", "-c", f"sleep {seconds} & sleep {seconds} >/dev/null 2>&1 &"])
        subprocess.Popen(["env", "-i", "/bin/sh", "-c", f"sleep {seconds} & wait"], start_new_session=True)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execvp("sleep", ["sleep", seconds])
            os._exit(0)
        os.wait()
        time.sleep(0.02)

@ray.remote
class Keeps:
    def __init__(self):
        self.children = [subprocess.Popen(["sleep", seconds]) for _ in range(3)]
    def ready(self):
        return True

values = [ray.put(bytes(1_000_000)) for _ in range(5)]
actor = Keeps.remote()
tasks = [starts_more.remote() for _ in range(4)]
ray.get(actor.ready.remote())
print("ready", flush=True)
ray.get(tasks)
"""


def left_of(programs: Programs, seconds: str) -> dict[int, str]:
    """Living processes with the programs' mark, and those that sleep for so long."""
    found = {pid: command(pid) for pid in programs.left()}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and seconds in (text := command(int(entry))).split():
            found[int(entry)] = text
    return {pid: text for pid, text in found.items() if text}


def test_driver_killed(attack: Attack) -> None:
    gone_ms = []
    started = 0
    shared = leaks.Snapshot.take().shared
    for number in range(KILLS):
        seconds = f"{os.getpid()}.{number:04}{attack.random.randrange(10_000):04}"
        running = attack.programs.start(DRIVER, seconds)
        if number % START_EACH == 0:
            wait_until(time.monotonic() + attack.random.uniform(0, STARTS_WITHIN_S))
        else:
            assert running.line() == "ready"
            started += 1
            wait_until(time.monotonic() + attack.random.uniform(0, LONGEST_LIFE_S))
        running.process.kill()
        killed = time.monotonic()
        running.process.wait()
        wait_for(lambda seconds=seconds: not left_of(attack.programs, seconds) or None, 5 * GONE_S)
        gone_ms.append(1000 * (time.monotonic() - killed))
        assert left_of(attack.programs, seconds) == {}
        assert list(attack.programs.temporary.iterdir()) == []
        assert leaks.Snapshot.take().shared <= shared
        assert Path(attack.programs.folder, f"program{number + 1}.err").read_text() == ""
    attack.figure("drivers killed", len(gone_ms), "times")
    attack.figure("of these with tasks that had begun", started, "times", at_least=1)
    attack.figure("all gone, median", percentile(gone_ms, 0.5), "ms")
    attack.figure("all gone, slowest", max(gone_ms), "ms", at_most=1000 * GONE_S)
