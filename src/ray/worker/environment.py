"""What a worker process settles before its first task, and around each."""

import contextlib
import json
import random
import sys
from typing import Any

from ray._kernel import Arena
from ray.config import Config
from ray.core.resources import stock_of
from ray.core.session_state import WORKER_MODE, Current


def record_of(arena: Arena) -> dict[str, Any]:
    """The session's record: the fields of `ray.session.record.SessionRecord`."""
    record: dict[str, Any] = json.loads(arena.session())
    return record


def joined(arena: Arena, record: dict[str, Any]) -> Current:
    """The session as a worker sees it."""
    config = Config(**record["settings"])
    in_cluster = bool(record.get("cluster_token"))
    name = record["node_ip_address"] if in_cluster else ""
    return Current(arena, arena, WORKER_MODE, config, stock_of(arena), in_cluster, name)


def reseed() -> None:
    """A forked worker has the template's random generators; no two may draw the same sample."""
    random.seed()
    for name in ("numpy.random", "torch"):
        module = sys.modules.get(name)
        if module is not None:
            module.seed()


def flush() -> None:
    """What the user's code printed is to be seen before its result is."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):  # users put all kinds of things there, None among them
        with contextlib.suppress(AttributeError, OSError, ValueError):
            sys.stderr.flush()
