"""What driver, node manager and workers of a node say to each other about a script's code: in the journal.

    wanted   a worker, or the node manager for another node: this job's code is to be had
    given    the driver: it is this object, with this digest; these files were left out
    placed   the node manager: it is in this folder
    refused  driver or node manager: it can't be had, for this reason

Whoever has written one nudges those who wait for something else.
"""

import json
from typing import Any

from ray._kernel import JOURNAL_NOTE, Arena

WANTED, GIVEN, PLACED, REFUSED = "code wanted", "code given", "code placed", "code refused"


def write(arena: Arena, job: int, event: str, **more: Any) -> None:
    """Raises KernelError: a full store, a session that has ended."""
    arena.journal(JOURNAL_NOTE, json.dumps({"event": event, **more}).encode(), job)
    arena.nudge()


def read(entry: tuple[int, int, int, int, bytes]) -> dict[str, Any]:
    """An entry of the journal, if it is one of these; else {}."""
    if entry[1] != JOURNAL_NOTE:
        return {}
    try:
        found = json.loads(entry[4])
    except ValueError:
        return {}
    is_one = isinstance(found, dict) and found.get("event") in (WANTED, GIVEN, PLACED, REFUSED)
    return found if is_one else {}
