"""This project: the checkout, in an environment with what it needs and no more."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from peers import ACTORS, CHUNKS, DEPENDENCIES, NESTED, NODES, ORDER, STORE, STORE_BYTES, WAIT, WORKERS

TITLE = "raycore"
PACKAGES: list[str] = []
LOCK = "dev.lock"
CAN = {DEPENDENCIES, STORE, WAIT, NESTED, ACTORS, ORDER, CHUNKS, NODES}
FIRST_RESULT = f"""
import ray
ray.init(num_cpus={WORKERS})
@ray.remote
def answer():
    return 42
print(ray.get(answer.remote()), flush=True)
"""
IMPORT = "import ray"

_clusters: list[Any] = []


def start(workers: int = WORKERS, **options: Any) -> Any:
    import ray

    ray.init(num_cpus=workers, **options)
    return ray


def start_cluster(nodes: int, **of_head: Any) -> Any:
    import ray
    from ray.testing import LocalCluster

    _clusters[:] = [LocalCluster(1, **{"num_cpus": 0, "object_store_memory": STORE_BYTES, **of_head})]
    for _ in range(nodes):
        cluster().add_node(num_cpus=1)
    ray.init(redis_address=cluster().address)
    return ray


def cluster() -> Any:
    """That which runs, for a question that is asked of this project alone."""
    return _clusters[0]


def stop() -> None:
    import ray

    ray.shutdown()
    for cluster in _clusters:
        cluster.stop()
    _clusters.clear()


@functools.cache
def remote(function: Callable[..., Any]) -> Any:
    import ray

    return ray.remote(function)


@contextlib.contextmanager
def inside() -> Iterator[Any]:
    import ray

    yield SimpleNamespace(remote=remote, get=ray.get)


def mapped(system: Any, function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    return list(system.map(function, items))


in_chunks = mapped


def unordered(system: Any, function: Callable[..., Any], items: list[Any], shared: Any) -> Iterator[Any]:
    remote, value = system.remote(function), system.put(shared)
    ids = [remote.remote(item, value) for item in items]
    yield from map(system.get, popped(system, ids))


def popped(system: Any, ids: list[Any]) -> Iterator[Any]:
    while ids:
        (ready,), ids = system.wait(ids)
        yield ready
