"""What tasks print on other nodes, and what fails there, reaches the driver whose job it is, and no other."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray.policy.cluster import notes
from ray.testing import LocalCluster, LocalNode
from tests.api.programs import Finished, Programs, wait_for
from tests.cluster.events import PATIENCE_S, manager_of


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as running:
        yield running


BEGIN = """
import os, sys, time
import ray

def join():
    ray.init(redis_address=sys.argv[1], node_ip_address=sys.argv[2])
"""
PRINTS = (
    BEGIN
    + """
name = sys.argv[3]

@ray.remote(num_custom_resource=1)
def says(number):
    print(f"{name} {number}")
    print(f"{name} aside {number}", file=sys.stderr)
    os.write(1, f"{name} raw {number}\\n".encode())

@ray.remote(num_custom_resource=1)
def ends_without_a_line():
    print(f"{name} no end", end="")

join()
ray.get([says.remote(number) for number in range(50)])
ray.get(ends_without_a_line.remote())
"""
)


def test_each_driver_gets_its_own_before_the_result(programs: Programs, standing: LocalCluster) -> None:
    """The drivers exit as soon as they have their results."""
    there = standing.nodes[2].node_ip_address
    running = {
        f"driver{number}": programs.start(
            PRINTS, standing.address, standing.nodes[number % 3].node_ip_address, f"driver{number}"
        )
        for number in range(4)
    }
    for number, (name, program) in enumerate(running.items()):
        done = program.finish()
        assert done.code == 0, done.both
        # What the driver's own node prints is as on one machine.
        by = "" if number % 3 == 2 else f"({there}) "
        expected = {f"{by}{name} {what}{n}" for n in range(50) for what in ("", "raw ")}
        lines = done.out.splitlines()
        assert set(lines) == expected | {f"{by}{name} no end"}
        assert len(lines) == len(expected) + 1
        assert sorted(done.err.splitlines()) == sorted(f"{by}{name} aside {n}" for n in range(50))


RUNS = (
    BEGIN
    + """
@ray.remote(num_custom_resource=1)
def runs(flag):
    print("begun: äöü", flush=True)
    while not os.path.exists(flag):
        time.sleep(0.01)

join()
ray.get(runs.remote(sys.argv[3]))
"""
)


def test_it_is_seen_while_the_task_runs(programs: Programs, standing: LocalCluster, tmp_path: Path) -> None:
    flag = tmp_path / "go"
    program = programs.start(RUNS, standing.address, standing.head.node_ip_address, str(flag))
    assert program.line() == f"({standing.nodes[2].node_ip_address}) begun: äöü"
    flag.touch()
    assert program.finish().code == 0


NESTED = (
    BEGIN
    + """
@ray.remote
def fails(text):
    raise ValueError(text)

@ray.remote(max_retries=0)
def dies():
    os._exit(3)

@ray.remote(num_custom_resource=1)
def begins(name):
    failing, dying = fails.remote(f"failed for {name}"), dies.remote()
    ray.wait([failing, dying], num_returns=2)
    return os.environ["RAY_SESSION"]

join()
ray.get(begins.remote(sys.argv[3]))
deadline = time.monotonic() + 10
while len(ray.error_info()) < 2 and time.monotonic() < deadline:
    time.sleep(0.01)
for error in ray.error_info():
    print(error["type"], error["data"]["function_name"])
"""
)


def test_failures_of_tasks_of_tasks_are_told_once_to_their_driver(
    programs: Programs, standing: LocalCluster
) -> None:
    running = {
        name: programs.start(NESTED, standing.address, node.node_ip_address, name)
        for name, node in zip(("first", "second"), standing.nodes, strict=False)
    }
    for name, program in running.items():
        done = program.finish()
        assert done.code == 0, done.both
        assert sorted(done.out.splitlines()) == ["task fails", "worker_died dies"], done.both
        assert done.err.count(f"ValueError: failed for {name}") == 1
        assert done.err.count("failed for") == 1
        assert done.err.count("dies") == 1, done.err


FLOOD = (
    BEGIN
    + """
@ray.remote(num_custom_resource=1)
def flood(megabytes):
    for _ in range(megabytes):
        sys.stdout.write(("x" * 999 + "\\n") * 1000)
    print("the last line", flush=True)

join()
ray.get(flood.remote(int(sys.argv[3])))
deadline = time.monotonic() + 60
while not os.path.exists(sys.argv[4]) and time.monotonic() < deadline:
    time.sleep(0.01)
"""
)


def memory_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"no VmHWM of {pid}")


def test_a_flood_is_cut_and_counted(programs: Programs, standing: LocalCluster, tmp_path: Path) -> None:
    by = f"({standing.nodes[2].node_ip_address}) "

    def shown(megabytes: int) -> list[str]:
        flag = tmp_path / f"seen-{megabytes}"
        program = programs.start(
            FLOOD, standing.address, standing.head.node_ip_address, str(megabytes), str(flag)
        )
        out = Path(program._out)
        try:
            seen = wait_for(lambda: f"{by}the last line\n" in out.read_text() or None, PATIENCE_S)
            assert seen, "its end is missing"
        finally:
            flag.touch()
            done = program.finish()
        return done.out.splitlines()

    shown(1)  # what its first job costs a node manager is there
    managers = [manager_of(node) for node in (standing.nodes[0], standing.nodes[2])]
    before = {pid: memory_bytes(pid) for pid in managers if pid}
    assert len(before) == 2
    megabytes = 60
    lines = shown(megabytes)
    whole = lines.count(by + "x" * 999)
    left_out = [line for line in lines if "bytes are left out here" in line]
    assert left_out
    counted = sum(int(line.removeprefix(by).split()[0].replace(",", "")) for line in left_out)
    # A line whose rest was slow to come is shown in two.
    parts = [line.removeprefix(by) for line in lines if line.startswith(by + "x") and line != by + "x" * 999]
    shown_bytes = whole * 1000 + sum(map(len, parts))
    assert shown_bytes <= megabytes * 1_000_000 - counted <= shown_bytes + len(parts)
    assert whole * 1000 < megabytes * 500_000
    for pid, least in before.items():
        assert memory_bytes(pid) - least < 8 * notes.WINDOW_BYTES


SLOWLY = (
    BEGIN
    + """
@ray.remote(num_custom_resource=1)
def counts(flag, most):
    for number in range(most):
        print("count", number, flush=True)
        time.sleep(0.001)

join()
ray.get(counts.remote(sys.argv[3], int(sys.argv[4])))
"""
)


@pytest.mark.parametrize("killed", [0, 2])
def test_node_managers_that_are_killed_lose_nothing(
    programs: Programs, standing: LocalCluster, tmp_path: Path, killed: int
) -> None:
    """Nor does what is told again after the one that tells was killed appear twice."""
    most = 2_000
    program = programs.start(
        SLOWLY, standing.address, standing.head.node_ip_address, str(tmp_path / "flag"), str(most)
    )
    program.line()
    for _ in range(3):
        pid = wait_for(lambda: manager_of(standing.nodes[killed]), PATIENCE_S)
        assert pid
        os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda pid=pid: replaced(standing.nodes[killed], pid), PATIENCE_S)  # type: ignore[misc]
    done: Finished = program.finish()
    numbers = [int(line.split()[-1]) for line in done.out.splitlines()]
    assert sorted(set(numbers)) == list(range(most))
    if killed == 2:
        assert numbers == list(range(most))


def replaced(node: LocalNode, killed: int) -> bool | None:
    found = manager_of(node)
    return (found is not None and found != killed) or None
