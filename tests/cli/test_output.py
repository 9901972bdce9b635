"""What tasks print reaches the driver that they belong to, and no other."""

import os
import shutil
from pathlib import Path

from tests.api.programs import Programs
from tests.cli.head import Head

PRINTS = """
import os, sys, time
import ray

name = sys.argv[2]

@ray.remote
def says(number):
    print(f"{name} {number}")
    print(f"{name} aside {number}", file=sys.stderr)
    os.write(1, f"{name} raw {number}\\n".encode())

@ray.remote
class Talker:
    def say(self, number):
        print(f"{name} actor {number}")

ray.init(redis_address=sys.argv[1])
talker = Talker.remote()
for number in range(50):
    ray.get([says.remote(number), talker.say.remote(number)])
"""


def test_each_driver_gets_its_own(programs: Programs, head: Head) -> None:
    running = {name: programs.start(PRINTS, head.address, name) for name in ("first", "second", "third")}
    for name, program in running.items():
        done = program.finish()
        assert done.code == 0, done.both
        expected = {f"{name} {what}{n}" for n in range(50) for what in ("", "raw ", "actor ")}
        lines = done.out.splitlines()
        assert set(lines) == expected
        assert len(lines) == len(expected)
        assert sorted(done.err.splitlines()) == sorted(f"{name} aside {n}" for n in range(50))


LONG = """
import os, sys, time
import ray

@ray.remote
def long():
    print("begun: äöü")
    while not os.path.exists(sys.argv[2]):
        time.sleep(0.01)
    print("no end of line", end="")

ray.init(redis_address=sys.argv[1])
ray.get(long.remote())
"""


def test_it_is_seen_while_the_task_runs(programs: Programs, head: Head, tmp_path: Path) -> None:
    program = programs.start(LONG.replace("sys.argv[2]", repr(str(tmp_path / "go"))), head.address)
    assert program.line() == "begun: äöü"
    (tmp_path / "go").touch()
    done = program.finish()
    assert done.out == "begun: äöü\nno end of line"


def test_a_silent_driver_prints_nothing(programs: Programs, head: Head) -> None:
    silent = PRINTS.replace("sys.argv[1])", "sys.argv[1], driver_mode=ray.SILENT_MODE)")
    done = programs.run(silent, head.address, "silent")
    assert (done.out, done.err) == ("", "")


def test_a_folder_that_was_cleared_away_is_made_again(programs: Programs, head: Head) -> None:
    assert programs.run(PRINTS, head.address, "before").out.count("before") == 150
    shutil.rmtree(head.status()["logs"])
    # Its actor needs a new worker, with a log of its own.
    assert programs.run(PRINTS, head.address, "after").out.count("after") == 150
    assert os.stat(head.status()["logs"]).st_mode & 0o777 == 0o700


FLOOD = """
import itertools, os, sys, time
import ray

@ray.remote
def flood(flag):
    for number in itertools.count():
        print("x" * 1000)
        if number == 100_000:
            open(flag, "w").close()

ray.init(redis_address=sys.argv[1])
flood.remote(sys.argv[2])
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
print("the end")
"""


def test_a_flood_does_not_keep_its_driver(programs: Programs, head: Head, tmp_path: Path) -> None:
    done = programs.start(FLOOD, head.address, str(tmp_path / "flooded")).finish()
    assert done.code == 0, done.err
    assert "the end" in done.out
    assert "xxx" in done.out
