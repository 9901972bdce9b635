"""A demand that no node can meet is told to its driver, wherever the task that makes it runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ray.testing import LocalCluster
from tests.api.programs import Programs, wait_for
from tests.cluster.events import PATIENCE_S

ASKS = """
import os, sys, time
import ray

ray.init(redis_address=sys.argv[1])

@ray.remote
def large(number=0):
    return "done"

@ray.remote(num_gpus=1)
class Large:
    def works(self):
        return "works"

def ask():
    actor = Large.remote()
    many = [large.options(num_cpus=64).remote(number) for number in range(2_000)]
    return actor, many
"""
HERE = (
    ASKS
    + """
actor, many = ask()
print("asked", flush=True)
print(set(ray.get(many)), ray.get(actor.works.remote()), flush=True)
"""
)
ELSEWHERE = (
    ASKS
    + """
@ray.remote(num_custom_resource=1)
def asks(flag):
    actor, many = ask()
    while not os.path.exists(flag):
        time.sleep(0.01)
    return "asked"

print(ray.get(asks.remote(sys.argv[2])), flush=True)
"""
)


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as running:
        yield running


def unmet(text: str) -> list[str]:
    return [line for line in text.splitlines() if "no node of the cluster can run" in line]


def test_a_driver_is_told_at_once_and_when_a_node_can(programs: Programs) -> None:
    with LocalCluster(2, num_cpus=1) as cluster:
        program = programs.start(HERE, cluster.address)
        both = wait_for(lambda: len(unmet(program.err_so_far())) >= 2 or None, PATIENCE_S)
        assert both, program.err_so_far()
        names = [node.node_ip_address for node in cluster.nodes]
        has = ", ".join(f"{name} has 1 CPU" for name in names)
        assert sorted(unmet(program.err_so_far())) == [
            "ray: tasks or actors wait that no node of the cluster can run: they need "
            f"{needs}, and {has}. They run when a node joins that can."
            for needs in ("1 CPU and 1 GPU", "64 CPUs")
        ]
        able = cluster.add_node(num_cpus=64, num_gpus=1)
        done = program.finish()
        assert done.out.splitlines() == ["asked", "{'done'} works"]
        assert len(unmet(done.err)) == 2
        now = [line for line in done.err.splitlines() if " runs now: " in line]
        assert sorted(now) == [
            f"ray: what waited for {needs} runs now: node {able.node_ip_address} can, which has "
            "64 CPUs and 1 GPU."
            for needs in ("1 CPU and 1 GPU", "64 CPUs")
        ]


def test_a_driver_elsewhere_is_told_too(programs: Programs, standing: LocalCluster) -> None:
    """The task that asks runs on the third node."""
    flag = programs.folder / "flag"
    program = programs.start(ELSEWHERE, standing.address, str(flag))
    both = wait_for(lambda: len(unmet(program.err_so_far())) >= 2 or None, PATIENCE_S)
    assert both, program.err_so_far()
    flag.touch()
    done = program.finish()
    assert (done.code, done.out) == (0, "asked\n"), done.both
    there = standing.nodes[2].node_ip_address
    lines = unmet(done.err)
    assert len(lines) == 2, done.err
    for line in lines:
        assert line.startswith(f"({there}) ray: ")
        assert line.count(" has ") == 3
