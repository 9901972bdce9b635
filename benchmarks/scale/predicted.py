"""The plan of a measured cluster, carried out in virtual time: the same figures, by the same names."""

from functools import partial
from statistics import median
from typing import Any

from benchmarks.scale.costs import Costs, node_id
from benchmarks.scale.loop import Cores, Wires
from benchmarks.scale.member import Member, Tables
from benchmarks.scale.workload import Plan, Sizes, mean
from ray.node.cluster.node_table import LOOK_S
from ray.node.journal_copier import WAIT_MS
from tests.simulator.world import World

SETTLE_US = 3_000_000
CORES_HERE = 2
SUBMIT_US = 5.0  # CPU of a task in the driver, where it was not measured


class Cluster:
    """Nodes that are linked with each other, the first of them the head; the driver is at the second."""

    def __init__(
        self,
        plan: Plan,
        costs: Costs,
        sizes: Sizes,
        cores: int | None = CORES_HERE,
        start_us: float = 0.0,
        submit_us: float = SUBMIT_US,
        seed: int = 0,
    ) -> None:
        """`cores` is how many all nodes share; None: each manager has its own. `start_us` is what the start
        of a worker that has rested takes of them, `submit_us` what a task takes of the driver's."""
        self.start_us = start_us
        self.submit_us = submit_us
        self.plan = plan
        self.world = World(1_000 * plan.nodes + seed)
        self.wires = Wires(self.world)
        self.shared = Cores(self.world, cores) if cores else None
        self.costs = costs
        self.sizes = sizes
        self.lengths_us: dict[bytes, int] = {}
        self.members: list[Member] = []
        for _ in range(plan.nodes):
            self.add()
        self.function = self.home.tables.put(node_id(1 << 40), bytes(sizes.function))
        self.run(SETTLE_US)

    @property
    def head(self) -> Member:
        return self.members[0]

    @property
    def home(self) -> Member:
        return self.members[1]

    def add(self) -> Member:
        name = node_id(len(self.members) + 1)
        tables = Tables(name, self.plan.cpus, self.lengths_us, self.sizes, self.world)
        cores = self.shared or Cores(self.world, 1)
        tables.start_us, tables.cores = self.start_us, self.shared
        head = self.members[0].name if self.members else name
        member = Member(name, head, tables, self.world, self.wires, cores, self.costs)
        # Links are there where something was to be said: with the head, and with the driver's node.
        for other in self.members[:2]:
            member.link(other.name, other.hello())
            other.link(member.name, member.hello())
        self.members.append(member)
        member.start()
        return member

    def run(self, for_us: int) -> None:
        self.world.run(self.world.now_us + for_us)

    def burst(self, lengths_s: list[float]) -> tuple[float, float]:
        """Milliseconds until each node has begun a task, and until all tasks are done."""
        for member in self.members:
            member.tables.begun_us = None
        began = self.world.now_us
        held: list[Any] = []
        tables = self.home.tables

        def give(length_s: float) -> None:
            held.append(tables.give(self.function, round(1e6 * length_s)))

        if self.shared is not None:
            self.shared.take(self.submit_us * len(lengths_s))
        for turn, length_s in enumerate(lengths_s):
            self.world.after(round(turn * self.submit_us), partial(give, length_s))
        while len(held) < len(lengths_s) or not all(tables.is_ready(oid) for oid in held):
            self.run(1_000)
        done_us = self.world.now_us - began
        firsts = [member.tables.begun_us for member in self.members if member.alive]
        held.clear()
        assert all(first is not None for first in firsts)
        return (max(first or 0 for first in firsts) - began) / 1000, done_us / 1000

    def death(self) -> float:
        """Milliseconds from a node's end until the head has declared it dead."""
        victim = next(member for member in reversed(self.members) if member.alive)
        began = self.world.now_us
        known = len(self.head.deaths)
        victim.kill()
        for member in self.members:
            if member.alive:
                member.lose(victim.name)
        while len(self.head.deaths) == known:
            self.run(1_000)
        noticed_ms = (self.head.deaths[-1][1] - began) / 1000
        self.run(SETTLE_US + self.world.random.randrange(1_000_000))
        self.add()
        self.run(SETTLE_US)
        return noticed_ms


def predict(
    plan: Plan,
    costs: Costs,
    sizes: Sizes,
    cores: int | None = CORES_HERE,
    start_us: float = 0.0,
    submit_us: float = SUBMIT_US,
) -> dict[str, float]:
    """What `real.measure` measures, each burst in a cluster of its own."""
    return mean(
        [_run(plan, Cluster(plan, costs, sizes, cores, start_us, submit_us, n)) for n in range(plan.bursts)]
    )


def _run(plan: Plan, cluster: Cluster) -> dict[str, float]:
    cluster.burst([0.05] * (4 * plan.nodes * plan.cpus))
    cluster.run(SETTLE_US)
    figures: dict[str, float] = {}
    _phase("idle", cluster, figures, partial(cluster.run, round(1e6 * plan.idle_s)))
    figures["idle.store"] = figures["burst.store"] = 1000 / WAIT_MS + 1 / LOOK_S
    spread: list[float] = []
    _phase("burst", cluster, figures, lambda: spread.extend(cluster.burst(plan.task_lengths_s())))
    figures["spread_ms"], took_ms = spread
    figures["burst_s"] = took_ms / 1000
    noticed = [cluster.death() for _ in range(plan.deaths)]
    figures["death_ms"], figures["death_ms_worst"] = median(noticed), max(noticed)
    return figures


def _phase(name: str, cluster: Cluster, figures: dict[str, float], work: Any) -> None:
    before = [member.traffic.copy() for member in cluster.members]
    began = cluster.world.now_us
    work()
    passed_s = (cluster.world.now_us - began) / 1e6
    rates = [
        {field: (now - then.get(field, 0)) / passed_s for field, now in member.traffic.copy().items()}
        for member, then in zip(cluster.members, before, strict=True)
    ]
    for title, of in (("head", rates[:1]), ("home", rates[1:2]), ("node", rates[2:])):
        for field in {field for each in of for field in each}:
            figures[f"{name}.{title}.{field}"] = sum(each.get(field, 0.0) for each in of) / len(of)
