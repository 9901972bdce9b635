"""The picture of a run: how many times as good as each peer, row by row, and the bars.

A program of its own: results on standard input, the picture's path as its argument.
"""

import json
import sys
from pathlib import Path
from typing import Any

from bars import Bar
from report import MAIN, OURS, Line, Summary

COLOURS = {"pypi_ray": "#3b6ea8", "dask": "#d9822b", "loky": "#5c9e5a", "pool": "#8d6cab"}
MARKERS = {"pypi_ray": "o", "dask": "s", "loky": "^", "pool": "D"}
BAR_COLOUR = "#b0544f"


def draw(summary: Summary, path: Path) -> None:
    """As SVG, the same bytes for the same results."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [
        line for line in summary.groups().get(MAIN, []) if line.peers and line.ours and line.row.compared
    ]
    workers = [line for line in summary.lines if line.row.name.startswith("rate_of_") and line.ours]
    sizes = [0.34 * len(lines) + 1, 3] if workers else [0.34 * len(lines) + 1]
    pyplot.rcParams.update({"svg.hashsalt": "raycore", "svg.fonttype": "none", "font.size": 9})
    figure, panels = pyplot.subplots(
        len(sizes), figsize=(10, sum(sizes)), height_ratios=sizes, layout="constrained", squeeze=False
    )
    _ratios(panels[0][0], summary, lines)
    if workers:
        _workers(panels[1][0], workers)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    path.write_text("\n".join(each.rstrip() for each in path.read_text().splitlines()) + "\n")


def _ratios(axes: Any, summary: Summary, lines: list[Line]) -> None:
    for place, line in enumerate(lines):
        for bar in line.row.bars:
            for limit, style in ((bar.least, "-"), (bar.aim, ":")):
                if limit is not None and (at := place_of(bar, limit, line)) is not None:
                    axes.plot([at, at], [place - 0.4, place + 0.4], style, color=BAR_COLOUR, linewidth=2)
        for name in line.peers:
            times = line.ratio_to(name)
            if times and times != float("inf"):
                axes.plot(times, place, MARKERS[name], color=COLOURS[name], markersize=6)
    for name in summary.systems:
        if name != OURS:
            title = f"{summary.titles[name]} {summary.versions[name]}"
            axes.plot([], [], MARKERS[name], color=COLOURS[name], label=title)
    axes.plot([], [], "-", color=BAR_COLOUR, label="at least")
    axes.plot([], [], ":", color=BAR_COLOUR, label="aim")
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(lines)), [line.row.title.replace("`", "") for line in lines])
    axes.invert_yaxis()
    axes.grid(axis="x", which="major", color="#dddddd")
    axes.set_axisbelow(True)
    axes.set_xlabel(
        f"{summary.titles[OURS]} is so many times as good as the peer (below 1: the peer is better)"
    )
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=6, frameon=False)


def place_of(bar: Bar, limit: float, line: Line) -> float | None:
    """On the axis of ratios; of a bar in the row's unit, what it asks for in terms of PyPI's ray."""
    if bar.peer is not None:
        return limit if bar.peer in line.peers or bar.peer == "best" else None
    theirs = line.peers.get("pypi_ray")
    if not theirs:
        return None
    return limit / theirs if line.row.unit.more_is_better else theirs / limit


def _workers(axes: Any, lines: list[Line]) -> None:
    counts = [int(line.row.name.rpartition("_")[2]) for line in lines]
    middle = [line.figures[OURS] for line in lines]
    low, high = ([line.spreads[OURS][end] for line in lines] for end in (0, 1))
    axes.fill_between(counts, low, high, color=COLOURS["pypi_ray"], alpha=0.2, linewidth=0)
    axes.plot(counts, middle, "o-", color=COLOURS["pypi_ray"])
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_ylim(bottom=0)
    axes.grid(color="#dddddd")
    axes.set_xlabel("workers")
    axes.set_ylabel("noop tasks a second")


if __name__ == "__main__":
    draw(Summary(json.load(sys.stdin)), Path(sys.argv[1]))
