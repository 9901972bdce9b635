"""`dask.distributed` with a local cluster of processes, one thread each, without its dashboard."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from peers import ACTORS, CHUNKS, DEPENDENCIES, NESTED, NODES, STORE, WAIT, WORKERS

TITLE = "dask"
PACKAGES = ["distributed", "dask"]
LOCK = "peer-dask.lock"
CAN = {DEPENDENCIES, STORE, WAIT, NESTED, ACTORS, CHUNKS, NODES}
FIRST_RESULT = f"""
import tempfile
from distributed import Client, LocalCluster
def answer():
    return 42
if __name__ == "__main__":
    with LocalCluster(n_workers={WORKERS}, threads_per_worker=1, dashboard_address=None,
                      local_directory=tempfile.gettempdir()) as cluster, Client(cluster) as client:
        print(client.submit(answer).result(), flush=True)
"""
IMPORT = "import distributed"
CHUNKS_A_WORKER = 4  # as multiprocessing.Pool cuts them

_running: list[Any] = []


def start(workers: int = WORKERS) -> Any:
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        dashboard_address=None,
        local_directory=tempfile.gettempdir(),
        silence_logs=50,
    )
    client = Client(cluster)
    _running[:] = [client, cluster]
    return System(client)


def start_cluster(nodes: int) -> Any:
    """One worker more, in the place of the driver's node: what is put is put there, and nothing is run."""
    client = start(nodes + 1).client
    first, *others = client.scheduler_info(n_workers=-1)["workers"]
    return System(client, first, others)


def stop() -> None:
    for each in _running:
        each.close()


@contextlib.contextmanager
def inside() -> Iterator[Any]:
    from distributed import worker_client

    with worker_client() as client:
        yield System(client)


class System:
    def __init__(self, client: Any, home: str | None = None, workers: list[str] | None = None) -> None:
        """Puts to the worker `home`, and runs on `workers`; on any, if none are given."""
        self.client, self.home, self.workers = client, home, workers

    def remote(self, target: Any) -> Any:
        kind = Class if isinstance(target, type) else Function
        return kind(self.client, target, self.workers)

    def get(self, ids: Any) -> Any:
        if not isinstance(ids, list):
            return ids.result()
        if ids and type(ids[0]).__name__ != "Future":  # of an actor's calls
            return [each.result() for each in ids]
        return self.client.gather(ids)

    def put(self, value: Any) -> Any:
        return self.client.scatter(value, hash=False, workers=self.home)


class Function:
    def __init__(self, client: Any, function: Callable[..., Any], workers: list[str] | None) -> None:
        self.client, self.function, self.workers = client, function, workers

    def remote(self, *args: Any) -> Any:
        return self.client.submit(self.function, *args, pure=False, workers=self.workers)


class Class:
    def __init__(self, client: Any, cls: type, workers: list[str] | None) -> None:
        self.client, self.cls, self.workers = client, cls, workers

    def remote(self, *args: Any) -> Any:
        made = self.client.submit(self.cls, *args, actor=True, pure=False, workers=self.workers)
        return Handle(made)


class Handle:
    """Made at once; the first call waits for the actor."""

    def __init__(self, future: Any) -> None:
        self.future = future

    def __getattr__(self, name: str) -> Any:
        actor = self.future.result()
        method = Method(getattr(actor, name))
        setattr(self, name, method)
        return method


class Method:
    def __init__(self, call: Callable[..., Any]) -> None:
        self.remote = call


def mapped(system: Any, function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    client = system.client
    return list(client.gather(client.map(function, items, pure=False)))


def in_chunks(system: Any, function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    import dask.bag

    bag = dask.bag.from_sequence(items, npartitions=WORKERS * CHUNKS_A_WORKER)
    return list(bag.map(function).compute(scheduler=system.client))


def unordered(system: Any, function: Callable[..., Any], items: list[Any], shared: Any) -> Iterator[Any]:
    from distributed import as_completed

    value = system.put(shared)
    ids = [system.client.submit(function, item, value, pure=False) for item in items]
    for _, result in as_completed(ids, with_results=True):
        yield result


def popped(system: Any, ids: list[Any]) -> Iterator[Any]:
    from distributed import as_completed

    yield from as_completed(ids)
