"""This project: the checkout, in an environment with what it needs and no more."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from peers import ACTORS, CHUNKS, DEPENDENCIES, NESTED, ORDER, STORE, WAIT, WORKERS

TITLE = "raycore"
PACKAGES: list[str] = []
LOCK = "dev.lock"
CAN = {DEPENDENCIES, STORE, WAIT, NESTED, ACTORS, ORDER, CHUNKS}
FIRST_RESULT = f"""
import ray
ray.init(num_cpus={WORKERS})
@ray.remote
def answer():
    return 42
print(ray.get(answer.remote()), flush=True)
"""
IMPORT = "import ray"


def start(workers: int = WORKERS) -> Any:
    import ray

    ray.init(num_cpus=workers)
    return ray


def stop() -> None:
    import ray

    ray.shutdown()


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
