"""Clusters larger than anybody here has: a real head and a real scheduler among nodes that are only counted.

The head (`Head`, its `Authority`) and the home of the driver (`Scheduler`, `place`) run the real code, as in
`benchmarks.scale.member`. What is simpler than there, since 10,000 exchanges over model arenas don't fit into
minutes: tasks and results are numbers, of the size that real ones have on the wire; the other nodes are rows
of a table (`Crowd`); a View costs them CPU and bytes, and delays nothing.
"""

from dataclasses import dataclass
from statistics import median

from benchmarks.scale.costs import Costs, node_id
from benchmarks.scale.crowd import HOME, Bytes, Crowd, CrowdWires
from benchmarks.scale.ledger import Ledger, LedgerMember
from benchmarks.scale.workload import Sizes
from ray.policy.cluster.fencing import FENCE_MS
from ray.policy.cluster.placement import STALE_MS
from ray.wire import messages
from tests.simulator.world import World

LONG_VIEW_S = STALE_MS / 1000
HUGE_BYTES = 1 << 30
LATE_PONG_MS = FENCE_MS
PATIENCE_US = 60_000_000  # for a death to be noticed


class LargeCluster:
    """Of so many nodes, each with its own cores."""

    def __init__(self, nodes: int, cpus: int, length_s: float, costs: Costs, sizes: Sizes) -> None:
        self.nodes = nodes
        self.cpus = cpus
        self.world = World(nodes)
        self.wires = CrowdWires(self.world)
        length_us = round(1e6 * length_s)
        self.crowd = Crowd(self.world, self.wires, cpus, length_us, costs, Bytes.of(sizes))
        self.wires.crowd = self.crowd
        # The head's own tasks would be among what it costs to be the head.
        self.ledgers = [Ledger(self.world, 0, length_us), Ledger(self.world, cpus, length_us)]
        self.head, self.home = (
            LedgerMember(node_id(place + 1), ledger, self.crowd, self.wires, costs)
            for place, ledger in enumerate(self.ledgers)
        )
        decided = self.head.head
        assert decided is not None
        self.authority = decided.authority
        self.head.link(self.home.name, self.home.hello())
        self.home.link(self.head.name, self.head.hello())
        for place in range(2, nodes):
            row = self.crowd.add(node_id(place + 1))
            self.head.link(row.name, hello_of(self.home, row.name))
            decided.on_load(row.name, self.crowd.load_of(row), 0)
        # All have come long ago, and know each other.
        decided.board.publish(0, lambda _: True)
        for member in (self.head, self.home):
            member.standing.on_view(decided.view())
        self.head.start()
        self.home.start()

    def give(self, tasks: int) -> None:
        """The driver submits so many; its node has links with all others by then."""
        for name in self.crowd.rows:
            self.home.link(name, hello_of(self.home, name))
        self.crowd.homes.append(self.home.name)
        self.ledgers[HOME].give(tasks)

    def run(self, for_us: int) -> None:
        self.world.run(self.world.now_us + for_us)

    def figures(self) -> dict[str, float]:
        rows = self.crowd.rows.values()
        return {
            "head.sent_bytes": self.head.traffic.frame_bytes,
            "head.cpu_us": self.head.traffic.cpu_us,
            "home.sent_bytes": self.home.traffic.frame_bytes,
            "home.cpu_us": self.home.traffic.cpu_us,
            "home.placements": self.home.traffic.placements,
            "views": self.crowd.views,
            "loads": self.crowd.loads,
            "node.got_bytes": self.crowd.view_bytes,
            "node.sent_bytes": sum(row.sent_bytes for row in rows) / len(rows),
            "node.messages": sum(row.messages for row in rows) / len(rows),
            "node.cpu_us": self.crowd.view_us + sum(row.cpu_us for row in rows) / len(rows),
            "tasks": self.ledgers[HOME].ended,
        }

    def rates(self, for_s: float) -> dict[str, float]:
        """A second, over so many."""
        before = self.figures()
        began = self.world.now_us
        self.run(round(1e6 * for_s))
        passed_s = (self.world.now_us - began) / 1e6
        return {name: (value - before[name]) / passed_s for name, value in self.figures().items()}

    def death(self, silent: bool = False) -> float | None:
        """Milliseconds until the head has declared a node of the crowd dead; None: not in a minute."""
        name = list(self.crowd.rows)[len(self.crowd.rows) // 2]
        began = self.world.now_us
        if silent:
            self.wires.silent.add(name)
        else:
            self.crowd.kill(name)
            self.head.lose(name)
            self.home.lose(name)
        while name not in self.authority.dead:
            self.run(1_000)
            if self.world.now_us - began > PATIENCE_US:
                return None
        if silent:
            self.crowd.kill(name)
        return (self.world.now_us - began) / 1000

    def falsely_dead(self) -> int:
        """Nodes that were declared dead, and live."""
        living = {*self.crowd.rows, self.home.name}
        return sum(name in living for name in self.authority.dead)


def hello_of(member: LedgerMember, name: bytes) -> messages.Hello:
    """As a node like that one says it."""
    said = member.hello()
    return messages.Hello(said.protocol, said.release, name, b"", "10.0.100.100:40000", False, said.resources)


@dataclass(frozen=True, slots=True)
class LargePlan:
    """One size."""

    nodes: int
    cpus: int = 4
    task_s: float = 0.1
    tasks: int = 1_000_000
    idle_s: float = 20.0
    busy_s: float = 20.0
    warm_s: float = 5.0
    deaths: int = 3


def predict(plan: LargePlan, costs: Costs, sizes: Sizes) -> dict[str, float | None]:
    """What the page shows of one size."""
    cluster = LargeCluster(plan.nodes, plan.cpus, plan.task_s, costs, sizes)
    cluster.run(round(1e6 * plan.warm_s))
    found: dict[str, float | None] = {f"idle.{k}": v for k, v in cluster.rates(plan.idle_s).items()}
    noticed = [cluster.death() for _ in range(plan.deaths)]
    found["idle.death_ms"] = _median(noticed)
    found["idle.silent_ms"] = cluster.death(silent=True)
    # Nodes that have fenced themselves at rest run nobody's tasks.
    if cluster.crowd.longest_pong_us < 1_000 * FENCE_MS:
        _busy(cluster, plan, found)
    found["longest_pong_ms"] = cluster.crowd.longest_pong_us / 1000
    found["home_fenced"] = cluster.home.fenced
    found["false_deaths"] = cluster.falsely_dead()
    found["round_bytes"] = cluster.head.round_bytes
    return found


def _busy(cluster: LargeCluster, plan: LargePlan, found: dict[str, float | None]) -> None:
    """With tasks."""
    cluster.give(plan.tasks)
    began = cluster.world.now_us
    cluster.run(1_000_000)
    firsts = [row.begun_us for row in cluster.crowd.rows.values()]
    found["spread"] = sum(first is not None for first in firsts) / len(firsts)  # after one second
    cluster.run(round(1e6 * plan.warm_s))
    found |= {f"busy.{k}": v for k, v in cluster.rates(plan.busy_s).items()}
    found["busy.used"] = (found["busy.tasks"] or 0) * plan.task_s / (plan.cpus * len(cluster.crowd.rows))
    ended = cluster.ledgers[HOME].ended
    passed_s = (cluster.world.now_us - began) / 1e6
    if ended < plan.tasks:
        found["million_s"] = passed_s + (plan.tasks - ended) / max(found["busy.tasks"] or 0, 1e-9)
        found["busy.death_ms"] = _median([cluster.death() for _ in range(plan.deaths)])


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if len(known) == len(values) else None
