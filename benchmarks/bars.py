"""Units, rows, and the bars that this project's figures must reach."""

from collections.abc import Mapping
from dataclasses import dataclass

BEST = "best"  # the best of the peers that were measured


@dataclass(frozen=True)
class Unit:
    symbol: str
    more_is_better: bool = False

    def shown(self, figure: float) -> str:
        if self.symbol == "s":
            for scale, symbol in ((1e-6, "µs"), (1e-3, "ms")):
                if figure < 1000 * scale:
                    return f"{_digits(figure / scale)} {symbol}"
        space = "" if self.symbol.startswith("/") else " "
        return f"{_digits(figure)}{space}{self.symbol}"


RATE = Unit("/s", more_is_better=True)
LOOPS = Unit("loops/s", more_is_better=True)
BANDWIDTH = Unit("GiB/s", more_is_better=True)
SHARE = Unit("x", more_is_better=True)
SECONDS = Unit("s")
TIMES = Unit("x")
BYTES = Unit("B")
MEBIBYTES = Unit("MiB")
PERCENT = Unit("%")


@dataclass(frozen=True)
class Bar:
    """Of this peer's figure in the same run, a multiple; without a peer, a figure in the row's unit."""

    least: float
    aim: float | None = None
    peer: str | None = None

    def standard(self, figures: Mapping[str, float], unit: Unit) -> float | None:
        """The peer's figure; None: it was not measured."""
        if self.peer == BEST:
            best = max if unit.more_is_better else min
            return best(figures.values(), default=None)
        return figures.get(self.peer or "")

    def reached(self, limit: float, ours: float, peers: Mapping[str, float], unit: Unit) -> bool | None:
        """limit: `least` or `aim`.  None: the peer was not measured."""
        if self.peer is None:
            return ours >= limit if unit.more_is_better else ours <= limit
        theirs = self.standard(peers, unit)
        return None if theirs is None else ratio(ours, theirs, unit) >= limit

    def shown(self, limit: float, unit: Unit) -> str:
        if self.peer is None:
            return f"{'≥' if unit.more_is_better else '≤'} {unit.shown(limit)}"
        return "fastest" if self.peer == BEST else f"{limit:g} x"


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    unit: Unit
    bars: tuple[Bar, ...] = ()
    compared: bool = True  # with the peers' figures; False for one that means something only beside another


def ratio(ours: float, theirs: float, unit: Unit) -> float:
    """How many times as good as theirs ours is, whichever way is better."""
    better, worse = (ours, theirs) if unit.more_is_better else (theirs, ours)
    return better / worse if worse else float("inf")


def _digits(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
