"""What was measured beside what was predicted."""

from dataclasses import dataclass

TOLERANCE = 0.2
PHASES = {"idle": "at rest", "burst": "a burst"}
PLACES = {"head": "head", "home": "the driver's node", "node": "another node"}
FIELDS = {
    "messages": ("messages sent a second", 1.0),
    "frame_bytes": ("control bytes sent a second", 1.0),
    "placements": ("placement decisions a second", 1.0),
    "cpu_us": ("CPU of the node manager, ms a second", 1e-3),
}
SINGLE = {
    "burst_s": ("the burst, from its first task to its last result, s", 1.0),
    "spread_ms": ("until every node has begun one of its tasks, ms", 1.0),
    "death_ms": ("until the head knows that a killed node is dead, ms", 1.0),
    "idle.store": ("control-store commands a second, at rest", 1.0),
    "burst.store": ("control-store commands a second, in the burst", 1.0),
}
CALIBRATED = 3  # nodes of the cluster from which `rest_us` is taken


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    title: str
    nodes: int
    real: float
    predicted: float

    @property
    def off(self) -> float:
        return self.predicted / self.real - 1 if self.real else float("inf")

    @property
    def holds(self) -> bool:
        return abs(self.off) <= TOLERANCE


def rest_us(real: dict[str, float], predicted: dict[str, float]) -> float:
    """CPU a second of a node manager's other parts, which watch processes, memory and the mutex, and are not
    simulated: from a node at rest."""
    return max(0.0, real["idle.node.cpu_us"] - predicted["idle.node.cpu_us"])


def rows(
    nodes: int, real: dict[str, float], predicted: dict[str, float], rest: float, store_command_us: float
) -> list[Row]:
    """What either of them has no figure for, or what is nothing in both, has no row. Of the head's questions
    to the control store only the turns of its loop are simulated: a client's part is added here."""
    found = []
    for name, (title, unit) in SINGLE.items():
        found.append(Row(name, title, nodes, unit * real[name], unit * predicted[name]))
    for phase, when in PHASES.items():
        for place, where in PLACES.items():
            for field, (title, unit) in FIELDS.items():
                name = f"{phase}.{place}.{field}"
                if not real[name] and not predicted[name]:
                    continue
                more = rest if field == "cpu_us" else 0.0
                if field == "cpu_us" and place == "head":
                    more += predicted[f"{phase}.store"] * store_command_us
                title_here = f"{when}, {where}: {title}"
                found.append(Row(name, title_here, nodes, unit * real[name], unit * (predicted[name] + more)))
    return found
