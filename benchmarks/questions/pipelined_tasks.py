"""How many noop tasks a second, 10,000 submitted before the first is got?"""

from typing import Any

from bars import RATE, Bar, Row
from streams import noops

from questions import Repeats

ROWS = [
    Row(
        "pipelined_tasks",
        "10,000 noop tasks submitted, then got",
        RATE,
        (Bar(80, 200, "pypi_ray"), Bar(3, 8, "pool")),
    )
]
NEEDS: set[str] = set()


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    figures = noops(peer.start()).pipelined(repeats)
    peer.stop()
    return {"pipelined_tasks": figures}
