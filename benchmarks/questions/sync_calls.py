"""How many calls of one actor a second, one at a time: each is got before the next is made?"""

from typing import Any

from bars import RATE, Bar, Row
from peers import ACTORS
from streams import calls

from questions import Repeats

ROWS = [Row("sync_calls", "actor calls one at a time", RATE, (Bar(40, 100, "pypi_ray"),))]
NEEDS = {ACTORS}


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    figures = calls(peer.start()).one_by_one(repeats)
    peer.stop()
    return {"sync_calls": figures}
