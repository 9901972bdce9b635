"""Three hosts with a network between them: the commands, and cables that are cut, slow, and lose packets."""

import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.api.programs import Running, wait_for
from tests.cli.head import COMMAND
from tests.cluster.hosts import Host, hosts

PORT = 6379
READY_S = 20.0
DEAD_S = 10.0
REJOINED_S = 15.0
# Answers lines of a file: each the name of a question.
DRIVER = """
import json, os, sys, time
import numpy as np
import ray

ray.init(redis_address=sys.argv[1])

@ray.remote
def where(wait_s):
    time.sleep(wait_s)
    return os.environ["RAY_SESSION"]

@ray.remote
def total(array):
    time.sleep(0.2)
    return int(array.sum())

def spread():
    return len(set(ray.get([where.remote(0.05) for _ in range(24)])))

def array():
    return ray.get([total.remote(np.ones(200_000, np.uint8)) for _ in range(6)])

answered = 0
print("ready", flush=True)
while True:
    with open(sys.argv[2]) as file:
        asked = file.read().split()
    for name in asked[answered:]:
        if name == "end":
            sys.exit()
        print(json.dumps(globals()[name]()), flush=True)
        answered += 1
    time.sleep(0.02)
"""


class Cluster:
    def __init__(
        self, made: list[Host], nodes: list[Running], driver: Running, questions: Path, logs: Path
    ) -> None:
        self.hosts = made
        self.nodes = nodes
        self.driver = driver
        self.questions = questions
        self.logs = logs

    def ask(self, name: str, timeout_s: float = READY_S) -> object:
        with self.questions.open("a") as file:
            file.write(f"{name}\n")
        return json.loads(self.driver.line(timeout_s))

    def until_spread_over(self, count: int, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self.ask("spread") != count:
            assert time.monotonic() < deadline, self.said()

    def said(self) -> str:
        """By the head's node manager."""
        return "".join(path.read_text() for path in sorted(self.logs.glob("node-manager.*")))


@contextmanager
def cluster_of(made: list[Host], folder: Path) -> Iterator[Cluster]:
    """A node on each host, started by the command, and a driver on the first."""
    token = str(folder / "token")
    head = f"{made[0].address}:{PORT}"
    common = ["--block", "--num-cpus=1", "--object-store-memory=67108864", f"--token-file={token}"]
    with ExitStack() as stack:
        nodes: list[Running] = []

        def stop() -> None:
            for node in nodes:
                node.send(signal.SIGTERM)
            for node in nodes:
                node.finish()

        stack.callback(stop)
        for host in made:
            place = [f"--redis-address={head}"] if nodes else ["--head", f"--redis-port={PORT}"]
            address = f"--node-ip-address={host.address}"
            nodes.append(host.programs.start(COMMAND, "start", *place, address, *common))
            nodes[-1].line(READY_S)
        said = [nodes[0].line() for _ in range(6)]
        (logs,) = [found[1] for line in said if (found := re.match(r" *logs +(\S+)", line))]
        questions = folder / "questions"
        questions.touch()
        driver = made[0].programs.start(DRIVER, head, str(questions), env={"RAY_TOKEN_FILE": token})
        assert driver.line(READY_S) == "ready"
        cluster = Cluster(made, nodes, driver, questions, Path(logs))
        cluster.until_spread_over(len(made), READY_S)
        yield cluster
        with questions.open("a") as file:
            file.write("end\n")
        assert driver.finish().code == 0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("hosts")
    with hosts(3, folder) as made, cluster_of(made, folder) as started:
        yield started


def test_a_cable_that_is_slow_and_loses_packets(cluster: Cluster) -> None:
    """Work goes on at its pace; nobody is dead for it."""
    dead = cluster.said().count(" is dead: ")
    for host in cluster.hosts[1:]:
        host.make_slow("4mbit", 4)
    assert cluster.ask("array", 60.0) == [200_000] * 6
    cluster.until_spread_over(3, REJOINED_S)
    assert sum(host.lost_packets() for host in cluster.hosts[1:]) > 0
    for host in cluster.hosts[1:]:  # nothing that ends here waits for it
        host.make_fast()
    assert cluster.said().count(" is dead: ") == dead


def test_a_cable_that_is_cut(cluster: Cluster) -> None:
    """The host is dead within ten seconds; when the cable is mended it is a member again, as a new node."""
    cluster.hosts[2].cut()
    cut_s = time.monotonic()
    assert wait_for(lambda: " is dead: " in cluster.said() or None, DEAD_S), cluster.said()
    assert time.monotonic() - cut_s < DEAD_S
    assert cluster.ask("spread") == 2
    cluster.hosts[2].mend()
    cluster.until_spread_over(3, REJOINED_S)
