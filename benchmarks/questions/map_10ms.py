"""How long from the shell does a script take that maps 10 ms of computing over 1,000 items?"""

from typing import Any

from bars import BEST, SECONDS, Bar, Row

from questions import Repeats, from_shell

ROWS = [
    Row("map_10ms", "10 ms tasks mapped over 1,000 items, from the shell", SECONDS, (Bar(1, None, BEST),))
]
NEEDS: set[str] = set()
IN_TURNS = True


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    return {"map_10ms": from_shell("map_10ms.py", peer, repeats)}
