"""What a worker process settles before its first task, and around each."""

import contextlib
import json
import random
import sys

from ray._kernel import Arena
from ray.config import Config
from ray.core.resources import stock_of
from ray.core.session_state import WORKER_MODE, Current


def joined(arena: Arena) -> Current:
    """The session as this worker sees it, from the record that lies in the arena."""
    settings = json.loads(arena.session())["settings"]
    return Current(arena, arena, WORKER_MODE, Config(**settings), stock_of(arena))


def first_job(arena: Arena) -> int:
    """The job of the driver that started the session."""
    number: int = json.loads(arena.session())["job"]
    return number


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
