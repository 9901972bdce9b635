"""The errors of this job: from Redis, where they are kept, and from the journal, where they are first."""

import json
from typing import Any, NamedTuple

from ray._kernel import FORMAT_SYSTEM, JOURNAL_ERROR, Arena
from ray.core.failures import system_name
from ray.errors import RaySystemError
from ray.serialization import formats
from ray.serialization.failures import describe_failure, failure_text

# What `type` is for failures that are not the user's; those of the user's code are of type "task".
_SYSTEM_TYPES = {"WorkerCrashedError": "worker_died", "OutOfMemoryError": "out_of_memory"}


class Reported(NamedTuple):
    """One entry of the journal, or of its copy in Redis."""

    sequence: int
    format: int
    data: bytes


def errors_of_job(arena: Arena) -> list[dict[str, Any]]:
    """Every error of this process's job, oldest first."""
    kept = _from_redis(arena)
    last = kept[-1].sequence if kept else 0
    return [described(arena, each) for each in [*kept, *_from_journal(arena, last)]]


def described(arena: Arena, error: Reported) -> dict[str, Any]:
    """As `ray.error_info` lists it."""
    name = system_name(arena, error.format, error.data)
    found = describe_failure(error.format, error.data, name)
    kind = "task"
    if error.format in (FORMAT_SYSTEM, formats.OUT_OF_MEMORY):
        kind = _SYSTEM_TYPES.get(found.exception_type, "actor_died")
    return {
        "type": kind,
        "message": failure_text(error.format, error.data, name),
        "data": {
            "function_name": found.function_name,
            "exception_type": found.exception_type,
            "pid": found.pid,
            "attempt": found.attempt,
        },
        "sequence": error.sequence,
    }


def reported(entry: tuple[int, int, int, int, bytes], job: int) -> Reported | None:
    """A journal entry, if it is an error of this job."""
    sequence, kind, whose, fmt, data = entry
    if kind != JOURNAL_ERROR or whose != job:
        return None
    # What a process writes into the journal by itself has the format of plain bytes.
    return Reported(sequence, formats.TASK_ERROR if fmt == formats.RAW else fmt, data)


def _from_redis(arena: Arena) -> list[Reported]:
    session = arena.session()
    if not session:  # PYTHON_MODE has none
        return []
    from ray.control_store.client import ControlStore

    record = json.loads(session)
    # Redis has what the head's journal had, under the numbers of the head's jobs.
    if not record["control_store"] or record.get("head_address"):
        return []
    control_store = ControlStore(record["control_store"], record["redis_password"])
    try:
        found = control_store.errors(arena.job)
    except RaySystemError:  # being restarted; the journal still has the latest
        return []
    finally:
        control_store.close()
    entries = [(each.sequence, JOURNAL_ERROR, each.job, each.format, each.data) for each in found]
    return [error for entry in entries if (error := reported(entry, arena.job))]


def _from_journal(arena: Arena, after: int) -> list[Reported]:
    errors: list[Reported] = []
    place = after
    while True:
        place, entries = arena.journal_read(place)
        if not entries:
            return errors
        errors += [error for entry in entries if (error := reported(entry, arena.job))]
