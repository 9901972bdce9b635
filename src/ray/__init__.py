"""Distributed Python: tasks, actors and a shared object store.

import ray

ray.init()

@ray.remote
def square(x):
    return x * x

ray.get([square.remote(i) for i in range(4)])  # [0, 1, 4, 9]
"""

import gc as _gc

# Nothing that an import makes is garbage. In a program with much data a look for it, which hundreds of new
# objects would set off, takes several times as long as all else of this import.
_collects = _gc.isenabled()
_gc.disable()
try:
    from ray import errors, worker
    from ray._kernel import ObjectID
    from ray.api import (
        available_resources,
        cluster_resources,
        error_info,
        get,
        get_gpu_ids,
        init,
        is_initialized,
        kill,
        map,  # noqa: A004  the name that users look for
        nodes,
        put,
        remote,
        shutdown,
        timeline,
        wait,
    )
    from ray.core.actor import method
    from ray.core.session_state import PYTHON_MODE, SCRIPT_MODE, SILENT_MODE, WORKER_MODE
finally:
    if _collects:
        _gc.enable()

ObjectRef = ObjectID

__version__ = "0.1.0"

__all__ = [
    "PYTHON_MODE",
    "SCRIPT_MODE",
    "SILENT_MODE",
    "WORKER_MODE",
    "ObjectID",
    "ObjectRef",
    "__version__",
    "available_resources",
    "cluster_resources",
    "error_info",
    "errors",
    "get",
    "get_gpu_ids",
    "init",
    "is_initialized",
    "kill",
    "map",
    "method",
    "nodes",
    "put",
    "remote",
    "shutdown",
    "timeline",
    "wait",
    "worker",
]
