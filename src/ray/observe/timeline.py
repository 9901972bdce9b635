"""Which worker ran what when, as a trace in the Chrome format (which Perfetto reads as well).

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU, "Trace Event Format"
"""

import json
from typing import Any

from ray._kernel import ACTOR_CALL, ACTOR_CREATE, JOURNAL_FUNCTION, TASK, Arena

_CATEGORIES = {TASK: "task", ACTOR_CREATE: "actor creation", ACTOR_CALL: "actor call"}


def trace(arena: Arena) -> list[dict[str, Any]]:
    """Events in order of their start; times are in microseconds of the machine's monotonic clock."""
    names = _function_names(arena)
    finished = sorted(arena.events(), key=lambda event: event[2])
    workers = dict.fromkeys(pid for pid, *_ in finished)
    found: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": pid, "tid": pid, "args": {"name": f"worker {pid}"}}
        for pid in workers
    ]
    for pid, kind, start_ns, end_ns, task_id, key in finished:
        found.append(
            {
                "ph": "X",
                "name": names.get(key, "?"),
                "cat": _CATEGORIES.get(kind, "?"),
                "pid": pid,
                "tid": pid,
                "ts": start_ns / 1000,
                "dur": (end_ns - start_ns) / 1000,
                "args": {"task_id": task_id.hex()},
            }
        )
    return found


def _function_names(arena: Arena) -> dict[int, str]:
    names: dict[int, str] = {}
    place = 0
    while True:
        place, entries = arena.journal_read(place)
        if not entries:
            return names
        for _, kind, _, _, data in entries:
            if kind == JOURNAL_FUNCTION:
                entry = json.loads(data)
                names[entry["key"]] = entry["name"]
