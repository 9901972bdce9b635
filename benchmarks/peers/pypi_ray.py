"""PyPI's `ray`, without its dashboard, its tokens and its log to the driver, which only cost it speed."""

import os
import tempfile
from collections.abc import Callable
from typing import Any

from peers import (
    ACTORS,
    CHUNKS,
    DEPENDENCIES,
    NESTED,
    NODES,
    ORDER,
    STORE,
    STORE_BYTES,
    WAIT,
    WORKERS,
    raycore,
)

TITLE = "PyPI ray"
PACKAGES = ["ray"]
LOCK = "peer-ray.lock"
CAN = {DEPENDENCIES, STORE, WAIT, NESTED, ACTORS, ORDER, CHUNKS, NODES}
SETTINGS = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
OPTIONS = {"include_dashboard": False, "log_to_driver": False}
FIRST_RESULT = f"""
import os, tempfile
os.environ.update({SETTINGS!r})
import ray
ray.init(num_cpus={WORKERS}, _temp_dir=tempfile.gettempdir(), **{OPTIONS!r})
@ray.remote
def answer():
    return 42
print(ray.get(answer.remote()), flush=True)
"""
IMPORT = "import ray"

_clusters: list[Any] = []


def start(workers: int = WORKERS) -> Any:
    os.environ.update(SETTINGS)
    import ray

    ray.init(num_cpus=workers, _temp_dir=tempfile.gettempdir(), **OPTIONS)
    return ray


def start_cluster(nodes: int) -> Any:
    os.environ.update(SETTINGS)
    import ray
    from ray.cluster_utils import Cluster

    shared = {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    own = {"num_cpus": 0, **shared}
    cluster = Cluster(initialize_head=True, head_node_args=own)
    _clusters[:] = [cluster]
    for _ in range(nodes):
        cluster.add_node(num_cpus=1, **shared)
    ray.init(address=cluster.address, log_to_driver=False)
    return ray


def stop() -> None:
    raycore.stop()
    for cluster in _clusters:
        cluster.shutdown()
    _clusters.clear()


inside = raycore.inside
unordered = raycore.unordered
popped = raycore.popped


def mapped(system: Any, function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    remote = system.remote(function)
    return list(system.get([remote.remote(item) for item in items]))


def in_chunks(system: Any, function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    return list(_pool().map(function, items))


def _pool() -> Any:
    global pool
    if pool is None:
        from ray.util.multiprocessing import Pool

        pool = Pool(processes=WORKERS)
    return pool


pool: Any = None
