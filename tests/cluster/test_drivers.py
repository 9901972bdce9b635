"""Several drivers at once on different nodes: each its own functions, output, errors, and its own end."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray.session.found import find_sessions
from ray.testing import LocalCluster
from tests.api.programs import Programs, Running, wait_for
from tests.cluster.events import PATIENCE_S
from tests.session.driver_ends import ENDS, check_end_beside_another
from tests.session.other_user import USER, programs_of_other

NODES = 3
LEFT_BYTES = 1 << 20  # less than any value of the test's


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(NODES, num_cpus=2, object_store_memory=128 << 20) as cluster:
        yield cluster


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as running:
        yield running


BEGIN = """
import os, subprocess, sys, time
import ray

address, node, name = sys.argv[1:4]
ray.init(redis_address=address, node_ip_address=node)

def spread(task, *args):
    \"\"\"Until such tasks have run on all nodes; the sessions they ran in.\"\"\"
    seen = set()
    while len(seen) < 3:
        seen |= set(ray.get([task.remote(*args) for _ in range(12)]))
    return seen
"""

OWN = (
    BEGIN
    + """
@ray.remote
def who():  # all drivers have a function of this name
    time.sleep(0.02)
    return name, os.environ["RAY_SESSION"]

@ray.remote
def says(number):
    print(f"{name} says {number}")
    time.sleep(0.02)

@ray.remote(max_retries=0)
def fails():
    raise ValueError(f"of {name}")

names = set()
places = set()
while len(places) < 3:
    found = ray.get([who.remote() for _ in range(12)])
    names |= {each[0] for each in found}
    places |= {each[1] for each in found}
assert names == {name}, names
ray.get([says.remote(number) for number in range(30)])
failing = [fails.remote() for _ in range(6)]
ray.wait(failing, num_returns=6)
deadline = time.monotonic() + 10
while len(ray.error_info()) < 6 and time.monotonic() < deadline:
    time.sleep(0.01)
assert [f"of {name}" in error["message"] for error in ray.error_info()] == [True] * 6
print("done", flush=True)
"""
)


def check_own(program: Running, name: str, others: list[str]) -> None:
    done = program.finish()
    assert done.code == 0, done.both
    said = [line.partition(") ")[2] or line for line in done.out.splitlines()]
    assert sorted(said) == sorted(["done", *(f"{name} says {number}" for number in range(30))])
    assert done.err.count(f"ValueError: of {name}") == 6
    for other in others:
        assert other not in done.both


def test_each_has_its_own_functions_output_and_errors(programs: Programs, cluster: LocalCluster) -> None:
    names = ["ada", "barbara", "grace", "jean"]
    running = [
        programs.start(OWN, cluster.address, cluster.nodes[at % NODES].node_ip_address, name)
        for at, name in enumerate(names)
    ]
    for program, name in zip(running, names, strict=True):
        check_own(program, name, [other for other in names if other != name])


def test_drivers_of_two_users(programs: Programs, cluster: LocalCluster) -> None:
    with programs_of_other() as others:
        token = others.folder / "token"
        shutil.copyfile(cluster.head.record.token_file, token)
        token.chmod(0o600)
        os.chown(token, USER, USER)
        env = {"RAY_TOKEN_FILE": str(token)}
        node, other_node = (each.node_ip_address for each in cluster.nodes[:2])
        theirs = others.start(OWN, cluster.address, other_node, "nobody", env=env)
        ours = programs.start(OWN, cluster.address, node, "root")
        check_own(theirs, "nobody", ["root says", "of root"])
        check_own(ours, "root", ["nobody says", "of nobody"])


# Something of every kind on every node, none of which ends by itself.
BUSY = (
    BEGIN
    + """
@ray.remote
def where():
    time.sleep(0.02)
    return os.environ["RAY_SESSION"]

@ray.remote
def hangs():
    subprocess.Popen(["sleep", "1000"])
    while True:
        time.sleep(1)

@ray.remote
def makes(size):
    time.sleep(0.02)
    return bytes(size)

@ray.remote
def puts(size):
    time.sleep(0.02)
    return [ray.put(bytes(size))]

@ray.remote
def after(_):
    return 1

spread(where)
made = [makes.remote(2 << 20) for _ in range(12)]
boxes = ray.get([puts.remote(1 << 20) for _ in range(12)])
ray.wait(made, num_returns=12)
mine = ray.put(bytes(8 << 20))
hanging = [hangs.remote() for _ in range(12)]
waiting = [after.remote(each) for each in hanging for _ in range(10)]
print("begun", flush=True)
"""
)
# Keeps what it has on all nodes, and makes more.
QUIET = (
    BEGIN
    + """
@ray.remote(num_cpus=0)
def where(value):
    time.sleep(0.005)
    return os.environ["RAY_SESSION"]

@ray.remote(num_cpus=0)
def square(number):
    time.sleep(0.001)
    return number * number

@ray.remote(num_cpus=0)
def puts(number):
    return [ray.put(number)]

kept = ray.put(bytes(1 << 20))
boxes = ray.get([puts.remote(number) for number in range(30)])
print("here", flush=True)
while not os.path.exists("release"):
    assert ray.get([square.remote(number) for number in range(30)]) == [n * n for n in range(30)]
assert ray.get([box[0] for box in boxes]) == list(range(30))
assert len(ray.get(kept)) == 1 << 20
assert ray.error_info() == []
print("undisturbed", flush=True)
"""
)


def states(cluster: LocalCluster) -> list[dict[str, int]]:
    tokens = {node.record.token for node in cluster.nodes}
    return [each.arena.stats() for each in find_sessions() if each.record.token in tokens]


def unused(cluster: LocalCluster, left_bytes: int = LEFT_BYTES) -> bool | None:
    for stats in states(cluster):
        busy = stats["running_tasks"] or stats["ready_tasks"] or stats["cpu_free"] != stats["cpu_total"]
        if busy or stats["heap_used_bytes"] > left_bytes:
            return None
    return True


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("at", [0, 1])
def test_the_end_of_one_is_the_end_of_what_it_has_begun_everywhere(
    programs: Programs, cluster: LocalCluster, end: str, at: int
) -> None:
    busy_node, quiet_node = cluster.nodes[at].node_ip_address, cluster.nodes[2].node_ip_address
    check_end_beside_another(
        programs,
        programs.start(QUIET, cluster.address, quiet_node, "quiet"),
        lambda tail: programs.start(BUSY + tail, cluster.address, busy_node, "busy"),
        end,
        lambda: unused_but_for_one(cluster),  # the other one has a value of 1 MiB
        lambda: states(cluster),
    )
    assert wait_for(lambda: unused(cluster), PATIENCE_S), states(cluster)
    assert programs.left() == []


def unused_but_for_one(cluster: LocalCluster) -> bool | None:
    for stats in states(cluster):
        if stats["cpu_free"] != stats["cpu_total"] or stats["heap_used_bytes"] > 2 * LEFT_BYTES:
            return None
    return True
