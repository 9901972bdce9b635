"""`loky`: an executor of processes like the standard library's, made robust."""

from collections.abc import Callable, Iterator
from typing import Any

from peers import CHUNKS, WAIT, WORKERS

TITLE = "loky"
PACKAGES = ["loky"]
LOCK = "peer-loky.lock"
CAN = {WAIT, CHUNKS}
FIRST_RESULT = f"""
from loky import ProcessPoolExecutor
def answer():
    return 42
if __name__ == "__main__":
    with ProcessPoolExecutor({WORKERS}) as executor:
        print(executor.submit(answer).result(), flush=True)
"""
IMPORT = "import loky"
CHUNKS_A_WORKER = 4  # as multiprocessing.Pool cuts them

_running: list[Any] = []


def start(workers: int = WORKERS) -> Any:
    from loky import ProcessPoolExecutor

    executor = ProcessPoolExecutor(workers)
    _running[:] = [executor]
    return System(executor)


def stop() -> None:
    _running.pop().shutdown()


class System:
    def __init__(self, executor: Any) -> None:
        self.executor = executor

    def remote(self, function: Callable[..., Any]) -> Any:
        return Function(self.executor, function)

    def get(self, ids: Any) -> Any:
        return [each.result() for each in ids] if isinstance(ids, list) else ids.result()

    def put(self, value: Any) -> Any:
        """There is no store: the value travels with each task."""
        return value


class Function:
    def __init__(self, executor: Any, function: Callable[..., Any]) -> None:
        self.executor, self.function = executor, function

    def remote(self, *args: Any) -> Any:
        return self.executor.submit(self.function, *args)


def mapped(system: Any, function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    return list(system.executor.map(function, items))


def in_chunks(system: Any, function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    chunk = -(-len(items) // (WORKERS * CHUNKS_A_WORKER))
    return list(system.executor.map(function, items, chunksize=chunk))


def unordered(system: Any, function: Callable[..., Any], items: list[Any], shared: Any) -> Iterator[Any]:
    ids = [system.executor.submit(function, item, shared) for item in items]
    for each in popped(system, ids):
        yield each.result()


def popped(system: Any, ids: list[Any]) -> Iterator[Any]:
    from concurrent.futures import as_completed

    yield from as_completed(ids)
