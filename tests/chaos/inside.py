"""For the drivers of attacks: what is counted before and after, and what they print."""

import gc
import json
import os
import time
from typing import Any

import ray
import ray.core.session_state
from ray import _kernel

# What `arena.stats()` must say again when an attack is over. Workers and their processes come and go by
# policy; the journal, the tasks done and the touched bytes only grow.
COUNTED = (
    "objects",
    "tasks",
    "links",
    "references",
    "watches",
    "actors",
    "lanes",
    "ready_tasks",
    "running_tasks",
    "heap_blocks",
    "heap_used_bytes",
    "spill_file_used_bytes",
    "cpu_free",
    "gpu_free",
    "custom_free",
)
PATIENCE_S = 10.0  # buried processes, retired workers and dropped ids need their moment
POLL_S = 0.01


def arena() -> _kernel.Arena:
    """The arena of the running session."""
    return ray.core.session_state.current.arena


def say(text: str) -> None:
    """A step done; the watchdog outside waits for these lines."""
    print(text, flush=True)


def figure(
    name: str, value: float, unit: str, *, at_most: float | None = None, at_least: float | None = None
) -> None:
    """A figure for the table at the end of the run; one that misses its bar fails the attack."""
    noted = {"name": name, "value": value, "unit": unit, "at_most": at_most, "at_least": at_least}
    say(f"figure {json.dumps(noted)}")


def raised_by_get(oid: ray.ObjectID) -> Exception:
    """What `ray.get` raises for an id whose task has failed."""
    try:
        ray.get(oid)
    except Exception as error:
        return error
    raise AssertionError(f"{oid!r} has a value")


def done() -> None:
    """The attack is over and held."""
    say("done")


def tell(kind: str, number: int, name: str = "events") -> None:
    """An event, with this process and the time, for `Events` or a file; from the driver or a task.

    Whole, or not at all, if the process is killed meanwhile."""
    line = f"{kind} {number} {os.getpid()} {time.monotonic_ns()}\n"
    fd = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def journal_of(errors: int = 0, functions: int = 0) -> dict[str, int]:
    """What the journal may keep, for `Baseline.check`: so many failures, and functions with their code."""
    kept = errors + 2 * functions
    return {"objects": kept, "references": kept, "heap_blocks": 2 * kept, "heap_used_bytes": 64_000 * kept}


class Baseline:
    """What there was before the attack; take it after a warm-up that exported the attack's functions."""

    def __init__(self) -> None:
        gc.collect()
        self._counts = self._settled()
        self._descriptors = _descriptors()

    def _settled(self) -> dict[str, int]:
        """The counts, once they stand still and nothing runs: what the warm-up dropped is gone, and a worker
        that waits for a core has said that it is done."""
        deadline = time.monotonic() + PATIENCE_S
        before = self._take()
        while time.monotonic() < deadline:
            time.sleep(10 * POLL_S)
            now = self._take()
            if now == before and not now["running_tasks"]:
                break
            before = now
        return before

    @staticmethod
    def _take() -> dict[str, int]:
        stats = arena().stats()
        return {name: stats[name] for name in COUNTED}

    def check(self, allow: dict[str, int] | None = None) -> None:
        """Waits until the counts are as they were (`allow` names how many more may stay), the arena is whole.

        Raises AssertionError that names what is left.
        """
        allowed = allow or {}
        gc.collect()
        deadline = time.monotonic() + PATIENCE_S
        while left := self._left(allowed):
            assert time.monotonic() < deadline, f"left after the attack: {left}"
            time.sleep(POLL_S)
        problems = arena().check()
        assert problems == [], problems

    def _left(self, allowed: dict[str, int]) -> dict[str, Any]:
        now = self._take()
        left: dict[str, Any] = {
            name: (before, now[name])
            for name, before in self._counts.items()
            if abs(now[name] - before) > allowed.get(name, 0)
        }
        if (descriptors := _descriptors()) > self._descriptors + allowed.get("descriptors", 0):
            left["descriptors"] = (self._descriptors, descriptors)
        return left
