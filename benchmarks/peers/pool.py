"""`multiprocessing.Pool` of the standard library, workers forked."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from peers import CHUNKS, WORKERS

TITLE = "Pool"
PACKAGES: list[str] = []
LOCK = "peer-pool.lock"
CAN = {CHUNKS}
FIRST_RESULT = f"""
from multiprocessing import Pool
def answer():
    return 42
if __name__ == "__main__":
    with Pool({WORKERS}) as pool:
        print(pool.apply(answer), flush=True)
"""
IMPORT = "import multiprocessing.pool"

_running: list[Any] = []


def start(workers: int = WORKERS) -> Any:
    from multiprocessing import Pool

    _running[:] = [Pool(workers)]
    return System(_running[0])


def stop() -> None:
    pool = _running.pop()
    pool.close()
    pool.join()


class System:
    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def remote(self, function: Callable[..., Any]) -> Any:
        return Function(self.pool, function)

    def get(self, ids: Any) -> Any:
        return [each.get() for each in ids] if isinstance(ids, list) else ids.get()

    def put(self, value: Any) -> Any:
        """There is no store: the value travels with each task."""
        return value


class Function:
    def __init__(self, pool: Any, function: Callable[..., Any]) -> None:
        self.pool, self.function = pool, function

    def remote(self, *args: Any) -> Any:
        return self.pool.apply_async(self.function, args)


def mapped(system: Any, function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    return list(system.pool.map(function, items))


in_chunks = mapped


def unordered(system: Any, function: Callable[..., Any], items: list[Any], shared: Any) -> Iterator[Any]:
    yield from system.pool.imap_unordered(functools.partial(_call, function, shared), items)


def _call(function: Callable[..., Any], shared: Any, item: Any) -> Any:
    return function(item, shared)
