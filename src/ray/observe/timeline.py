"""Which worker ran what when, as a trace in the Chrome format (which Perfetto reads as well).

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU, "Trace Event Format"
"""

from typing import Any

from ray._kernel import ACTOR_CALL, ACTOR_CREATE, TASK, Arena
from ray.core.names import exports

_CATEGORIES = {TASK: "task", ACTOR_CREATE: "actor creation", ACTOR_CALL: "actor call"}


def trace(arena: Arena) -> list[dict[str, Any]]:
    """Events in order of their start; times are in microseconds of the machine's monotonic clock."""
    definitions = {entry["key"]: entry for entry in exports(arena)}
    finished = sorted(arena.events(), key=lambda event: event[2])
    workers = dict.fromkeys(pid for pid, *_ in finished)
    found: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": pid, "tid": pid, "args": {"name": f"worker {pid}"}}
        for pid in workers
    ]
    for pid, kind, start_ns, end_ns, task_id, key, method in finished:
        found.append(
            {
                "ph": "X",
                "name": _name(definitions.get(key), kind, method),
                "cat": _CATEGORIES.get(kind, "?"),
                "pid": pid,
                "tid": pid,
                "ts": start_ns / 1000,
                "dur": (end_ns - start_ns) / 1000,
                "args": {"task_id": task_id.hex()},
            }
        )
    return found


def _name(definition: dict[str, Any] | None, kind: int, method: int) -> str:
    """The function's, the class's, or of a call the method's with its class."""
    if definition is None:
        return "?"
    name: str = definition["name"]
    methods: list[str] = definition.get("methods", [])
    return f"{name}.{methods[method]}" if kind == ACTOR_CALL and method < len(methods) else name
