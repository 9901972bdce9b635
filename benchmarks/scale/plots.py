"""The picture of a run: six panels over the number of nodes.

A program of its own: results on standard input, the picture's path as its argument.
"""

import json
import sys
from pathlib import Path
from typing import Any

BLUE, RED, GREEN, GREY = "#3b6ea8", "#b0544f", "#5c9e5a", "#777777"
SILENT_S, NOTICED_S = 10.0, 1.0  # what the project asks for
NETWORK_BYTES = 1.25e9  # a second, of a link of 10 Gbit/s


def draw(results: dict[str, Any], path: Path) -> None:
    """As SVG, the same bytes for the same results."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"svg.hashsalt": "raycore", "svg.fonttype": "none", "font.size": 9})
    figure, panels = pyplot.subplots(3, 2, figsize=(10, 11), layout="constrained")
    for axes, panel in zip(panels.flat, PANELS, strict=True):
        panel(axes, results)
        axes.set_xscale("log")
        axes.grid(color="#dddddd")
        axes.set_axisbelow(True)
        axes.set_xlabel("nodes")
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    path.write_text("\n".join(each.rstrip() for each in path.read_text().splitlines()) + "\n")


def _line(
    axes: Any,
    results: dict[str, Any],
    name: str,
    label: str,
    colour: str,
    unit: float = 1.0,
) -> None:
    points = [
        (int(nodes), unit * found[name]) for nodes, found in results["large"].items() if found.get(name)
    ]
    if points:
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=label, markersize=4)


def _real(axes: Any, results: dict[str, Any], name: str, unit: float = 1.0) -> None:
    points = [(int(nodes), unit * found["real"][name]) for nodes, found in results["small"].items()]
    if points:
        axes.plot(*zip(*points, strict=True), "x", color="black", label="measured")


def _traffic_of_the_head(axes: Any, results: dict[str, Any]) -> None:
    _line(axes, results, "idle.head.sent_bytes", "at rest", BLUE)
    _line(axes, results, "busy.head.sent_bytes", "with tasks", RED)
    _real(axes, results, "idle.head.frame_bytes")
    axes.axhline(NETWORK_BYTES, color=GREY, linestyle=":", label="10 Gbit/s")
    axes.set_yscale("log")
    axes.set_title("control traffic out of the head, bytes a second")


def _traffic_of_a_node(axes: Any, results: dict[str, Any]) -> None:
    _line(axes, results, "busy.node.got_bytes", "received, with tasks", RED)
    _line(axes, results, "idle.node.got_bytes", "received, at rest", BLUE)
    _line(axes, results, "busy.node.sent_bytes", "sent, with tasks", GREEN)
    _line(axes, results, "idle.node.sent_bytes", "sent, at rest", GREY)
    axes.set_yscale("log")
    axes.set_title("control traffic of a node, bytes a second")


def _decisions(axes: Any, results: dict[str, Any]) -> None:
    _line(axes, results, "busy.home.placements", "decisions", BLUE)
    _line(axes, results, "busy.tasks", "tasks done", GREEN)
    _real(axes, results, "burst.home.placements")
    axes.set_yscale("log")
    axes.set_title("one driver: placement decisions, tasks a second")


def _deaths(axes: Any, results: dict[str, Any]) -> None:
    _line(axes, results, "idle.death_ms", "killed, at rest", BLUE, unit=1e-3)
    _line(axes, results, "busy.death_ms", "killed, with tasks", RED, unit=1e-3)
    _line(axes, results, "idle.silent_ms", "silent", GREEN, unit=1e-3)
    _real(axes, results, "death_ms", 1e-3)
    for limit in (NOTICED_S, SILENT_S):
        axes.axhline(limit, color=GREY, linestyle=":")
    axes.set_yscale("log")
    axes.set_title("time to notice a death, seconds (dotted: asked for)")


def _loops(axes: Any, results: dict[str, Any]) -> None:
    _line(axes, results, "idle.head.cpu_us", "head, at rest", BLUE, unit=1e-6)
    _line(axes, results, "busy.head.cpu_us", "head, with tasks", RED, unit=1e-6)
    _line(axes, results, "busy.home.cpu_us", "driver's node", GREEN, unit=1e-6)
    _line(axes, results, "busy.node.cpu_us", "another node", GREY, unit=1e-6)
    axes.axhline(1.0, color=GREY, linestyle=":", label="a whole core")
    axes.set_yscale("log")
    axes.set_title("share of a core that a node manager's loop takes")


def _store(axes: Any, results: dict[str, Any]) -> None:
    sizes = [int(nodes) for nodes in (*results["small"], *results["large"])]
    axes.plot(
        sizes, [results["store_a_second"]] * len(sizes), "o-", color=BLUE, label="predicted", markersize=4
    )
    _real(axes, results, "burst.store")
    axes.axhline(results["store_most"], color=GREY, linestyle=":", label="what one server's core can do")
    axes.set_yscale("log")
    axes.set_title("control-store commands a second")


PANELS = (_traffic_of_the_head, _traffic_of_a_node, _decisions, _deaths, _loops, _store)


if __name__ == "__main__":
    draw(json.load(sys.stdin), Path(sys.argv[1]))
