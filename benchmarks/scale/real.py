"""Real clusters of this machine, measured from outside and by the tap in their node managers."""

import contextlib
import os
import select
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import redis

import ray
from benchmarks.scale import counters, workload
from benchmarks.scale.workload import Plan, nap
from ray.control_store.server import BINARY_NAMES
from ray.session import processes
from ray.testing import LocalCluster, LocalNode

TAP = str(Path(__file__).with_name("tap"))
PATIENCE_S = 60.0
LOOK_S = 0.002
SETTLED_S = 3.0  # after a driver has come or a burst has ended: longer than anything is repeated
STORE_BATCHES = 1_000
STORE_COMMANDS, STORE_PAUSE_S = 30, 0.1
STARTS = 9
SCRATCH = "scale:scratch"  # a key that is gone again afterwards


@contextlib.contextmanager
def tapped() -> Iterator[Path]:
    """Node managers that start within it count; the folder has a file of each."""
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        os.environ[counters.VARIABLE] = folder
        ray.__path__.insert(0, TAP)
        try:
            yield Path(folder)
        finally:
            ray.__path__.remove(TAP)
            del os.environ[counters.VARIABLE]


class Watched:
    """A cluster, its counters, and its driver, at the second node."""

    def __init__(self, cluster: LocalCluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.head, self.home = cluster.nodes[0], cluster.nodes[1]
        host, _, port = self.head.record.control_store[0].rpartition(":")
        self.store = redis.Redis(host, int(port), password=self.head.record.redis_password)

    def manager(self, node: LocalNode) -> int:
        found = _soon(lambda: [p for p in processes.descendants(node.keeper.pid) if self._counts(p)])
        return found[0]

    def _counts(self, pid: int) -> bool:
        return processes.name(pid) == "ray-node" and (self.folder / str(pid)).exists()

    def snapshot(self) -> dict[str, Any]:
        nodes = {}
        for node in self.cluster.nodes:
            if node.is_alive:
                pid = self.manager(node)
                nodes[node.node_id] = {**counters.read(self.folder / str(pid)), "cpu_us": _cpu_us(pid)}
        return {"at": time.monotonic(), "nodes": nodes, "store": self.store_calls()}

    def store_calls(self) -> int:
        """Commands that the control store has carried out, without ours."""
        stats: dict[str, Any] = self.store.info("commandstats")
        ours = {"cmdstat_info", "cmdstat_client|setinfo", "cmdstat_hello"}
        return sum(each["calls"] for name, each in stats.items() if name not in ours)

    def store_batch_us(self) -> float:
        """CPU in its server of what an entry of the journal costs there: four commands."""
        below = processes.descendants(self.head.keeper.pid)
        (server,) = [pid for pid in below if processes.name(pid) in BINARY_NAMES]
        before = _cpu_us(server)
        for number in range(1, STORE_BATCHES + 1):
            with self.store.pipeline(transaction=True) as batch:
                batch.xadd(SCRATCH, {"data": b"." * 200}, f"{number}-0", maxlen=100)
                batch.set(f"{SCRATCH}:place", number)
                batch.execute()
        found = (_cpu_us(server) - before) / STORE_BATCHES
        self.store.delete(SCRATCH, f"{SCRATCH}:place")
        return found

    def store_command_us(self) -> float:
        """CPU here of asking it for a value, seldom, as the head's node manager does."""
        spent_ns = 0
        for _ in range(STORE_COMMANDS):
            time.sleep(STORE_PAUSE_S)
            began_ns = time.thread_time_ns()
            self.store.get(SCRATCH)
            spent_ns += time.thread_time_ns() - began_ns
        return spent_ns / STORE_COMMANDS / 1000

    def deaths(self) -> int:
        logs = Path(self.head.record.logs).glob("node-manager.*")
        return sum(path.read_text().count(" is dead: ") for path in logs)


def _end_of(pidfd: int) -> float:
    """When that process ended; closes the descriptor."""
    try:
        select.select([pidfd], [], [], PATIENCE_S)
        return time.monotonic()
    finally:
        os.close(pidfd)


def _cpu_us(pid: int) -> float:
    """Of all its threads; to the nanosecond, which the usual counts of ticks are not."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1000


def _soon(condition: Any) -> Any:
    """What it gives when it first gives something. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing for {PATIENCE_S} s")
        time.sleep(LOOK_S)
    return found


def measure(plan: Plan) -> dict[str, float]:
    """What the page compares, of one cluster of that size."""
    with tapped() as folder, LocalCluster(plan.nodes, num_cpus=plan.cpus) as cluster:
        watched = Watched(cluster, folder)
        ray.init(redis_address=cluster.address, node_ip_address=watched.home.node_ip_address)
        try:
            return _measure(watched, plan)
        finally:
            ray.shutdown()
            watched.store.close()


def _measure(watched: Watched, plan: Plan) -> dict[str, float]:
    task = ray.remote(nap)
    every = {node.record.token for node in watched.cluster.nodes}
    seen: set[str] = set()

    def spread() -> bool:
        count = 4 * plan.nodes * plan.cpus
        seen.update(token for token, _ in ray.get([task.remote(0.05) for _ in range(count)]))
        return seen == every

    _soon(spread)
    time.sleep(SETTLED_S)
    start_us = median(_start_us(task) for _ in range(STARTS))
    time.sleep(SETTLED_S)
    before = watched.snapshot()
    time.sleep(plan.idle_s)
    figures = _rates("idle", before, watched.snapshot(), watched)

    figures |= workload.mean([_burst(watched, plan, task) for _ in range(plan.bursts)])
    figures["start_us"] = start_us
    figures["store_batch_us"] = watched.store_batch_us()
    figures["store_command_us"] = watched.store_command_us()
    noticed = [_death(watched, plan) for _ in range(plan.deaths)]
    figures["death_ms"] = median(noticed)
    figures["death_ms_worst"] = max(noticed)
    return figures


def _burst(watched: Watched, plan: Plan, task: Any) -> dict[str, float]:
    time.sleep(SETTLED_S)
    before = watched.snapshot()
    began, spent_ns = time.time(), time.thread_time_ns()
    given = [task.remote(length_s) for length_s in plan.task_lengths_s()]
    spent_ns = time.thread_time_ns() - spent_ns
    results = ray.get(given)
    took_s = time.time() - began
    figures = _rates("burst", before, watched.snapshot(), watched)
    first: dict[str, float] = {}
    for token, at in results:
        first[token] = min(first.get(token, at), at)
    figures["spread_ms"] = 1000 * (max(first.values()) - began) if len(first) == plan.nodes else float("inf")
    figures["burst_s"] = took_s
    figures["submit_us"] = spent_ns / len(given) / 1000
    return figures


def _start_us(task: Any) -> float:
    """From the submission of a task until it runs, on this node: of a worker that has rested."""
    time.sleep(SETTLED_S / STARTS)
    submitted = time.time()
    _, began = ray.get(task.remote(0.0))
    return 1e6 * (began - submitted)


def _death(watched: Watched, plan: Plan) -> float:
    """From the kill of an idle node until the head says that it is dead."""
    before = watched.deaths()
    victim = watched.cluster.nodes[-1]
    with ThreadPoolExecutor(1) as executor:
        killed = executor.submit(_end_of, os.pidfd_open(victim.keeper.pid))
        watched.cluster.kill_node(victim)
        _soon(lambda: watched.deaths() > before)
        noticed_ms = 1000 * (time.monotonic() - killed.result())
    with_one_more = watched.cluster.add_node()
    watched.manager(with_one_more)
    time.sleep(SETTLED_S)
    return noticed_ms


def _rates(phase: str, before: dict[str, Any], after: dict[str, Any], watched: Watched) -> dict[str, float]:
    passed_s = after["at"] - before["at"]

    def rate(node: str, field: str) -> float:
        return (after["nodes"][node].get(field, 0) - before["nodes"][node].get(field, 0)) / passed_s

    head, home = watched.head.node_id, watched.home.node_id
    others = [node for node in after["nodes"] if node not in (head, home)]
    found = {f"{phase}.store": (after["store"] - before["store"]) / passed_s}
    for title, nodes in (("head", [head]), ("home", [home]), ("node", others)):
        kinds = {field for node in nodes for field in after["nodes"][node] if field.startswith("sent.")}
        for field in ("messages", "frame_bytes", "frames", "placements", "cpu_us", *kinds):
            found[f"{phase}.{title}.{field}"] = sum(rate(node, field) for node in nodes) / len(nodes)
    return found
