"""A driver's entries in the journal: its job has started, its job has ended. JSON, for the node manager."""

import json
import os
import sys
import time
from typing import Any

from ray import _kernel
from ray.core.job_entries import CODE, ENDED, EVENT, STARTED, SYS_PATH


def write_start(
    arena: _kernel.Arena,
    root_id: bytes,
    sys_path: list[str] | None = None,
    code: dict[str, Any] | None = None,
) -> None:
    """With its `sys.path` and code when these are not the workers' own: of a driver that has joined."""
    own = {} if sys_path is None else {SYS_PATH: sys_path, CODE: code}
    _write(arena, STARTED, os.getpid(), root_id=root_id.hex(), name=program_name(), **own)


def write_end(arena: _kernel.Arena, pid: int | None = None) -> None:
    """Of this process, or of another that can't write it any more. No effect when the session has ended."""
    try:
        _write(arena, ENDED, os.getpid() if pid is None else pid)
    except _kernel.ArenaClosed:
        return


def start_of(arena: _kernel.Arena, job: int) -> dict[str, Any] | None:
    """A job's first entry in the journal, which reaches back a bounded time only; None: it has no path of its
    own."""
    place = 0
    while True:
        place, entries = arena.journal_read(place)
        if not entries:
            return None
        for _, kind, whose, _, data in entries:
            if kind == _kernel.JOURNAL_JOB and whose == job and SYS_PATH in (event := json.loads(data)):
                found: dict[str, Any] = event
                return found


def program_name() -> str:
    """The driver's script, or what stands for it."""
    main = sys.modules.get("__main__")
    return os.path.basename(getattr(main, "__file__", None) or "") or "interactive"


def _write(arena: _kernel.Arena, event: str, pid: int, **more: Any) -> None:
    entry = {EVENT: event, "pid": pid, "time_s": time.time(), **more}
    arena.journal(_kernel.JOURNAL_JOB, json.dumps(entry).encode())
