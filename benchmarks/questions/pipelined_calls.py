"""How many calls of one actor a second, 10,000 made before the first is got, executed in that order?"""

from typing import Any

from bars import RATE, Bar, Row
from peers import ACTORS, ORDER
from streams import calls

from questions import Repeats

ROWS = [Row("pipelined_calls", "actor calls, 10,000 pipelined", RATE, (Bar(40, 80, "pypi_ray"),))]
NEEDS = {ACTORS, ORDER}


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    figures = calls(peer.start()).pipelined(repeats)
    peer.stop()
    return {"pipelined_calls": figures}
