"""How long from the shell does the main job's search take: 40 networks trained on real scans?"""

from typing import Any

from bars import BEST, SECONDS, Bar, Row

from questions import Repeats, from_shell

ROWS = [Row("main_job", "the main job's search, from the shell", SECONDS, (Bar(1, None, BEST),))]
NEEDS: set[str] = set()
IN_TURNS = True


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    return {"main_job": from_shell("main_job.py", peer, repeats)}
