"""Demands that no node of the cluster can meet: when their drivers are told, and when that is over."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ray.policy.cluster.placement import Amounts, NodeId, fits

# Nodes that are started together, or come back to a new head, are not there in the same moment.
HOLD_MS = 1_000  # a demand is told when nobody could meet it for so long
REPEAT_MS = 10_000  # it is told again after so long at least, if what there is has changed

Demand = tuple[int, Amounts]  # a job, and what tasks or actors of it need


@dataclass(frozen=True, slots=True)
class Tell:
    """The driver of that job is to hear this."""

    job: int
    needs: Amounts
    able: NodeId | None  # a node that can meet it, after all; None: there is none


@dataclass(slots=True)
class _Known:
    since_ms: int
    told_ms: int = 0
    told: tuple[Amounts, ...] | None = None  # what the nodes had when its driver was told


class UnmetDemands:
    """Those that wait, and what has been told of them."""

    def __init__(self) -> None:
        self._known: dict[Demand, _Known] = {}

    def __bool__(self) -> bool:
        return bool(self._known)

    def look(
        self, waiting: Collection[Demand], jobs: Collection[int], nodes: Mapping[NodeId, Amounts], now_ms: int
    ) -> list[Tell]:
        """`waiting` are those that none of these nodes can meet, by what each has in all; `jobs` those that
        have not ended."""
        tells = []
        for demand in self._known.keys() - waiting:
            known = self._known.pop(demand)
            job, needs = demand
            able = next((node for node, total in nodes.items() if fits(total, needs)), None)
            if known.told is not None and able is not None and job in jobs:
                tells.append(Tell(job, needs, able))
        there = tuple(sorted(nodes.values()))
        for demand in waiting:
            known = self._known.setdefault(demand, _Known(now_ms))
            first, again = now_ms - known.since_ms >= HOLD_MS, now_ms - known.told_ms >= REPEAT_MS
            if first if known.told is None else again and known.told != there:
                known.told, known.told_ms = there, now_ms
                tells.append(Tell(*demand, None))
        return tells
