"""Drivers of another user in a cluster, who show its token; and who does not."""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray.errors import RayConnectionError
from ray.session.attach import attach_session
from ray.session.options import SessionOptions
from ray.wire.token import ClusterToken
from tests.api.programs import Programs, wait_for
from tests.cli import head as cli
from tests.cli.head import Head
from tests.session.other_user import USER, programs_of_other

STORE_BYTES = 32 << 20


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as running:
        yield running


@pytest.fixture
def others() -> Iterator[Programs]:
    with programs_of_other() as running:
        yield running


@pytest.fixture
def head(others: Programs, programs: Programs) -> Iterator[Head]:
    started = Head.start(programs, "--num-cpus=2", f"--object-store-memory={STORE_BYTES}")
    yield started
    started.stop()
    assert programs.gone()
    assert not os.path.exists(token_file(started))


def token_file(head: Head) -> str:
    found = re.search(r"token +([^;]+);", head.said)
    assert found, head.said
    return found[1]


def logs(head: Head) -> Path:
    found = re.search(r"logs +(\S+)", head.said)
    assert found
    return Path(found[1])


def give(token: str, others: Programs) -> dict[str, str]:
    """A copy of the token, as the other user keeps it; what that user's drivers find in their environment."""
    place = others.folder / "token"
    shutil.copyfile(token, place)
    place.chmod(0o600)
    os.chown(place, USER, USER)
    return {"RAY_TOKEN_FILE": str(place)}


EVERYTHING = """
import os, signal, sys, time
import numpy
import ray

@ray.remote
def add(a, b):
    print("added", a, b)
    return a + b

@ray.remote
def whose():
    return os.getuid()

@ray.remote
def grows(array):
    return array + 1

@ray.remote(max_retries=0)
def fails():
    raise ValueError("as it shall")

@ray.remote
class Counter:
    def __init__(self):
        self.count = 0

    def add(self):
        self.count += 1
        return self.count

    def hang(self, path):
        open(path, "w").close()
        time.sleep(1000)

ray.init(redis_address=sys.argv[1])
assert os.getuid() == 65534
assert ray.get(whose.remote()) == 0
assert ray.get([add.remote(n, 1) for n in range(20)]) == list(range(1, 21))
counter = Counter.remote()
assert ray.get([counter.add.remote() for _ in range(3)]) == [1, 2, 3]

large = [ray.put(numpy.full(1 << 20, n)) for n in range(8)]  # twice the store
for n, each in enumerate(large):
    assert ray.get(grows.remote(each))[-1] == n + 1
assert all(ray.get(each)[0] == n for n, each in enumerate(large))

try:
    ray.get(fails.remote())
except ValueError as error:
    print("failed", "as it shall" in str(error))
assert len(ray.error_info()) == 1

begun = os.path.join(sys.argv[2], "begun")
hanging = counter.hang.remote(begun)
while not os.path.exists(begun):
    time.sleep(0.01)
ray.kill(counter)
try:
    ray.get(hanging, timeout=10_000)
except ray.errors.ActorDiedError:
    print("killed")
print("done", flush=True)
"""


def test_all_of_the_interface(others: Programs, head: Head) -> None:
    env = give(token_file(head), others)
    done = others.run(EVERYTHING, head.address, str(others.folder), env=env)
    lines = done.out.splitlines()
    assert {f"added {n} 1" for n in range(20)} < set(lines), done.both
    assert [line for line in lines if not line.startswith("added")] == ["failed True", "killed", "done"]
    assert "as it shall" in done.err
    assert wait_for(lambda: unused(head), 10.0), head.status()


def unused(head: Head) -> bool | None:
    now = head.status()
    idle = not now["running_tasks"] and not now["ready_tasks"] and not now["actors"] and not now["drivers"]
    return (idle and now["resources"]["CPU"]["used"] == 0 and now["store_used_bytes"] < 1 << 20) or None


OWN = """
import os, sys, time
import ray

@ray.remote
def says(name):
    print("said by", name)

@ray.remote(max_retries=0)
def fails(name):
    raise ValueError(name)

ray.init(redis_address=sys.argv[1])
name = str(os.getuid())
ids = [fails.remote(name), says.remote(name)]
ray.wait(ids, num_returns=2)
print(len(ray.error_info()))
"""


def test_output_and_errors_reach_their_own_driver(others: Programs, programs: Programs, head: Head) -> None:
    env = give(token_file(head), others)
    running = {str(USER): others.start(OWN, head.address, env=env), "0": programs.start(OWN, head.address)}
    for name, program in running.items():
        done = program.finish()
        assert done.code == 0, done.both
        assert sorted(done.out.splitlines()) == ["1", f"said by {name}"]
        assert f"ValueError: {name}" in done.err
        assert f"ValueError: {'0' if name != '0' else USER}" not in done.err


HOLDS = """
import os, subprocess, sys, time
import numpy
import ray

@ray.remote
def forever():
    subprocess.Popen(["sleep", "1000"])
    while True:
        time.sleep(1)

@ray.remote
class Keeps:
    def kept(self):
        self.value = ray.put(bytes(1 << 20))
        return True

ray.init(redis_address=sys.argv[1])
mine = ray.put(numpy.zeros(1 << 18))
keeps = Keeps.remote()
ray.get(keeps.kept.remote())
tasks = [forever.remote() for _ in range(4)]
print("begun", flush=True)
try:
    ray.get(tasks)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_however_it_ends_nothing_of_it_is_left(
    others: Programs, programs: Programs, head: Head, signum: int
) -> None:
    running = others.start(HOLDS, head.address, env=give(token_file(head), others))
    assert running.line() == "begun"
    running.send(signum)
    done = running.finish()
    assert ("interrupted" in done.out) == (signum == signal.SIGINT), done.both
    assert wait_for(lambda: unused(head), 10.0), head.status()


JOIN = """
import sys
import ray

try:
    ray.init(redis_address=sys.argv[1])
    print("joined")
except ray.errors.RayError as error:
    print(type(error).__name__, error)
"""


def test_who_has_no_token_is_told_where_to_get_it(others: Programs, head: Head) -> None:
    said = others.run(JOIN, head.address).out
    assert said.startswith("RayConnectionError")
    port = head.address.rpartition(":")[2]
    for part in ("id 0", str(USER), "ray status", "RAY_TOKEN_FILE", f"configuration/ray/token-{port}"):
        assert part in said


def test_a_wrong_token_is_refused_at_both_ends(others: Programs, head: Head) -> None:
    wrong = ClusterToken.new()
    path = wrong.save(str(others.folder / "wrong"))
    os.chown(path, USER, USER)
    said = others.run(JOIN, head.address, env={"RAY_TOKEN_FILE": path})
    assert f"the one in {path} is of another cluster" in said.out
    log = (logs(head) / "keeper.err").read_text()
    assert f"user with id {USER} was refused" in log
    assert "ray status" in log
    right = ClusterToken.load(token_file(head))
    for secret in (wrong.text, right.text):
        assert secret.partition(":")[2] not in log + said.both


def test_a_token_that_others_can_read_is_not_used(others: Programs, head: Head) -> None:
    env = give(token_file(head), others)
    os.chmod(env["RAY_TOKEN_FILE"], 0o644)
    assert "chmod 600" in others.run(JOIN, head.address, env=env).out
    os.chmod(env["RAY_TOKEN_FILE"], 0o600)
    assert others.run(JOIN, head.address, env=env).out == "joined\n"


def test_the_usual_places_of_a_copy(others: Programs, head: Head) -> None:
    port = head.address.rpartition(":")[2]
    folder = others.folder / "configuration" / "ray"
    folder.mkdir(parents=True)
    for name in (f"token-{port}", "token"):
        place = folder / name
        shutil.copyfile(token_file(head), place)
        place.chmod(0o600)
        os.chown(place, USER, USER)
        assert others.run(JOIN, head.address).out == "joined\n"
        place.unlink()


def test_clusters_of_two_users_never_meet(others: Programs, programs: Programs, head: Head) -> None:
    theirs = Head.start(others, "--num-cpus=1")
    assert theirs.address != head.address
    assert theirs.address not in cli.run(programs, "status").out
    assert head.address not in cli.run(others, "status").out
    assert others.run(JOIN, theirs.address).out == "joined\n"
    assert others.run(JOIN, head.address).out.startswith("RayConnectionError")
    options = SessionOptions.from_init(redis_address=theirs.address)
    with pytest.raises(RayConnectionError, match=f"user with id {USER}"):
        attach_session(options)
    assert cli.run(others, "stop", f"--address={head.address}").code == 1
    assert cli.run(programs, "stop", f"--address={theirs.address}").code == 1
    assert "Ended" in cli.run(others, "stop", f"--address={theirs.address}").out
    assert others.gone()
    assert programs.run(JOIN, head.address).out == "joined\n"
