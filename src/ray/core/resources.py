"""Demands against what the node has."""

import json

from ray._kernel import UNIT, Arena
from ray.core.options import Demand
from ray.core.session_state import Current
from ray.errors import InfeasibleResourcesError

INFINITE = 2**62  # a node with num_custom_resource=-1


def stock_of(arena: Arena) -> Demand:
    """All that the node has, whether in use or not."""
    stats = arena.stats()
    return Demand(stats["cpu_total"], stats["gpu_total"], stats["custom_total"], custom_name(arena))


def custom_name(arena: Arena) -> str:
    """What the cluster calls its custom resource; "" when it has no name."""
    record = json.loads(arena.session() or b"{}")
    return str(record.get("custom_resource_name", ""))


def free_of(arena: Arena) -> Demand:
    """What is not in use now; CPUs that a blocked task lent and has taken back count as none, not as debt."""
    stats = arena.stats()
    cpu, gpu, custom = (max(0, stats[f"{kind}_free"]) for kind in ("cpu", "gpu", "custom"))
    return Demand(cpu, gpu, custom, custom_name(arena))


def shape_of(session: Current, demand: Demand, name: str) -> int:
    """The kernel's number for this demand.

    Raises InfeasibleResourcesError if the node could not meet it with nothing else running, and there are no
    others, nor can be."""
    node = session.stock
    fits = demand.cpu <= node.cpu and demand.gpu <= node.gpu and demand.custom <= node.custom
    # The name is the whole cluster's, so that nobody else has what is called otherwise.
    is_known = demand.custom_name in ("", node.custom_name) or not demand.custom
    if not is_known or (not fits and not session.in_cluster):
        raise InfeasibleResourcesError(name, amounts(demand), amounts(node))
    return session.submitter.shape(demand.cpu, demand.gpu, demand.custom)


def at_once(session: Current, demand: Demand) -> int:
    """How many tasks of this demand the node runs at one time when nothing else runs; at least one."""
    limits = [have // need for have, need in zip(_kinds(session.stock), _kinds(demand), strict=True) if need]
    most = min(limits, default=session.stock.cpu // UNIT)  # what needs nothing still uses a CPU
    return max(1, min(most, session.config.worker_limit))


def _kinds(demand: Demand) -> tuple[int, int, int]:
    return demand.cpu, demand.gpu, demand.custom


def amounts(demand: Demand) -> dict[str, float]:
    """In the user's names and units; what there is none of is left out, CPUs excepted."""
    found = {"CPU": demand.cpu / UNIT}
    if demand.gpu:
        found["GPU"] = demand.gpu / UNIT
    if demand.custom:
        name = demand.custom_name or "custom_resource"
        found[name] = float("inf") if demand.custom >= INFINITE // 2 else demand.custom / UNIT
    return found
