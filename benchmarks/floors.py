"""What this project must reach: a multiple of a peer's figure, or a time of its own."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class TimesPeer:
    """At least this many times as good as the peer."""

    times: float
    peer: str = "pypi_ray"

    def __str__(self) -> str:
        return f">= {self.times:g} x"

    def reached(self, ours: float, peers: Mapping[str, float], unit: str) -> bool | None:
        """None: the peer was not measured."""
        theirs = peers.get(self.peer)
        return None if theirs is None else ratio(ours, theirs, unit) >= self.times


@dataclass(frozen=True)
class AtMost:
    seconds: float

    def __str__(self) -> str:
        return f"<= {self.seconds:g} s"

    def reached(self, ours: float, peers: Mapping[str, float], unit: str) -> bool | None:
        return ours <= self.seconds


Floor = TimesPeer | AtMost


def ratio(ours: float, theirs: float, unit: str) -> float:
    """How many times as good as theirs ours is, whichever way is better."""
    return ours / theirs if unit == "/s" else theirs / ours
