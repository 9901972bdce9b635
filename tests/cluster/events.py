"""What tests wait for: other nodes known, node managers replaced, deaths declared."""

import os
from pathlib import Path

import ray
from ray.session import processes
from ray.testing import LocalCluster, LocalNode
from tests.api.programs import wait_for

PATIENCE_S, PATIENCE_MS = 10.0, 10_000


@ray.remote
def where(wait_s: float = 0.0) -> str:
    """The session, and so the node, that a task runs in."""
    import time

    time.sleep(wait_s)
    return os.environ["RAY_SESSION"]


def wait_until_spread(nodes: list[LocalNode]) -> None:
    """Until tasks of this driver have run on all these nodes."""
    missing = {node.record.token for node in nodes}

    def all_seen() -> bool | None:
        missing.difference_update(ray.get([where.remote(0.02) for _ in range(4 * len(nodes))]))
        return not missing or None

    assert wait_for(all_seen, PATIENCE_S), f"{len(missing)} nodes run nothing"


def manager_of(node: LocalNode) -> int | None:
    """The process id of a node's manager; None while there is none."""
    for pid in processes.descendants(node.keeper.pid):
        if processes.name(pid) == "ray-node":
            return pid
    return None


def log_of_manager(node: LocalNode) -> str:
    return "".join(path.read_text() for path in sorted(Path(node.record.logs).glob("node-manager.*")))


def deaths(cluster: LocalCluster) -> list[str]:
    """What the head has said of nodes that are dead."""
    return [line for line in log_of_manager(cluster.head).splitlines() if " is dead: " in line]
