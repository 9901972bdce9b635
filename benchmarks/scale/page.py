"""Tables of a run for docs/scale.md, between marks on the page; nothing else of the page is touched."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.scale import compared
from benchmarks.scale.large import HUGE_BYTES, LATE_PONG_MS, LONG_VIEW_S

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "scale.md"
PICTURE = DOCS / "scale.svg"
BEGIN = "<!-- {}: written by make scale ARGS=--publish -->"
END = "<!-- end of {} -->"
NETWORK_BYTES = 1.25e9

LARGE = (
    ("idle.views", "Views a second, at rest", 1.0),
    ("busy.views", "Views a second, with tasks", 1.0),
    ("idle.head.sent_bytes", "out of the head at rest, MB a second", 1e-6),
    ("busy.head.sent_bytes", "out of the head with tasks, MB a second", 1e-6),
    ("idle.head.cpu_us", "the head's loop at rest, % of a core", 1e-4),
    ("busy.head.cpu_us", "the head's loop with tasks, % of a core", 1e-4),
    ("busy.node.got_bytes", "into a node with tasks, kB a second", 1e-3),
    ("busy.node.cpu_us", "a node's loop with tasks, % of a core", 1e-4),
    ("busy.home.placements", "placement decisions a second", 1.0),
    ("busy.home.cpu_us", "the loop of the driver's node, % of a core", 1e-4),
    ("spread", "nodes that have begun a task after 1 s, %", 100.0),
    ("busy.tasks", "tasks done a second", 1.0),
    ("busy.used", "of what all CPUs could do, %", 100.0),
    ("million_s", "a million tasks, s", 1.0),
    ("idle.death_ms", "until a killed node is known to be dead, at rest, s", 1e-3),
    ("busy.death_ms", "the same with tasks, s", 1e-3),
    ("idle.silent_ms", "until a silent one is, s", 1e-3),
    ("longest_pong_ms", "the longest that a node waited for the head's answer, s", 1e-3),
    ("false_deaths", "living nodes declared dead", 1.0),
    ("round_bytes", "the largest round of Views, for all links, in the head's memory, MB", 1e-6),
)

LIMITS = (
    ("idle.head.cpu_us", 0.9e6, "the head's loop is full at rest"),
    ("busy.head.cpu_us", 0.9e6, "the head's loop is full with tasks"),
    ("idle.head.sent_bytes", NETWORK_BYTES, "the head needs more than 10 Gbit/s at rest"),
    ("busy.home.cpu_us", 0.9e6, "the loop of the driver's node is full"),
    (
        "view_s",
        LONG_VIEW_S,
        "a View is older than two seconds when the next one comes: placement goes without it",
    ),
    ("round_bytes", HUGE_BYTES, "a round of Views fills a gigabyte of the head's memory"),
    ("unused", 0.5, "more than half of all CPUs wait for tasks of 0.1 s from one driver"),
    ("idle.death_ms", 1e3, "a killed node is noticed later than in a second"),
    ("idle.silent_ms", 1e4, "a silent node is noticed later than in ten seconds"),
    (
        "longest_pong_ms",
        LATE_PONG_MS,
        "nodes fence themselves: the head answers a `Ping` after six seconds",
    ),
    ("false_deaths", 0.5, "living nodes are declared dead"),
)


def publish(results: dict[str, Any], page: Path = PAGE, picture: Path = PICTURE) -> list[Path]:
    """Returns the files that it wrote. Raises ValueError if the page has no place for a part."""
    page.write_text(written(page.read_text(), parts(results, picture.name)))
    plots = [sys.executable, str(Path(__file__).with_name("plots.py")), str(picture)]
    subprocess.run(plots, input=json.dumps(results), text=True, check=True)
    return [page, picture]


def parts(results: dict[str, Any], picture: str = PICTURE.name) -> dict[str, str]:
    return {
        "the run": run(results),
        "what each step costs": costs(results),
        "three and ten nodes": small(results),
        "beyond": large(results)
        + f"\n\n![Control traffic, decisions, deaths, loops, control store]({picture})",
        "what breaks first": breaks(results),
    }


def written(page: str, found: dict[str, str]) -> str:
    for name, text in found.items():
        begin, end = BEGIN.format(name), END.format(name)
        part = re.compile(re.escape(begin) + "\n.*?" + re.escape(end), re.DOTALL)
        new = f"{begin}\n\n{text}\n\n{end}"
        page, count = part.subn(lambda _, new=new: new, page)
        if count != 1:
            raise ValueError(f"the page has {count} places for the part {name!r}, not one")
    return page


def number(value: float | None) -> str:
    """Three figures of it."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def run(results: dict[str, Any]) -> str:
    rows = {
        "command": f"`{results['command']}`",
        "date": time.strftime("%Y-%m-%d", time.gmtime(results["when"])),
        "took": f"{results['took_s'] / 60:.0f} minutes",
        **results["machine"],
    }
    return "\n".join(["| run | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def costs(results: dict[str, Any]) -> str:
    lines = ["| step | µs of CPU |", "|---|--:|"]
    for name, cost in results["costs"].items():
        title = STEPS[name]
        if isinstance(cost, dict) and "each" in cost:
            shown = f"{number(cost['fixed'])} + {number(cost['each'])} n"
        elif isinstance(cost, dict):
            shown = f"{number(cost['first'])}, then {number(cost['again'])}"
        else:
            shown = number(1000 * cost) + " ns" if name.startswith("byte") else number(cost)
        lines.append(f"| {title} | {shown} |")
    if "start_us" in results:
        title = "a worker that has rested, from the submission of a task until it runs, on the same node"
        lines.append(f"| {title} | {number(results['start_us'])} |")
    if "submit_us" in results:
        lines.append(f"| a task that the driver submits, in the driver | {number(results['submit_us'])} |")
    if "store_command_us" in results:
        title = "a command to the control store, at the head's node manager"
        lines.append(f"| {title} | {number(results['store_command_us'])} |")
    if "store_batch_us" in results:
        title = "an entry of the journal in the control store's server: four commands"
        lines.append(f"| {title} | {number(results['store_batch_us'])} |")
    return "\n".join(lines)


STEPS = {
    "look": "a node manager's look at its own node, and the `Load` it makes",
    "load_in": "a `Load` at the head: decoded, entered",
    "published": "the head's choice who of n nodes is told what",
    "view_made": "a `View` of n nodes, put together by the head, once for all who are told the same",
    "view_encoded": "the same, encoded, once",
    "view_decoded": "the same, decoded at a node",
    "view_taken": "the same, taken over by a node's scheduler",
    "view_confirmed": "more there for all n nodes that it knows",
    "placed": "a placement decision among n other nodes",
    "sent": "more for each node that is sent something by it",
    "ticked": "the head's look at all n members",
    "turn": "an event loop that waited, woken for one thing",
    "rung": "the thread that rings it when there is news of the arena",
    "frame_out": "a small frame sent, TLS and system calls included",
    "frame_in": "a small frame received",
    "byte_out": "each byte of a large frame, sent",
    "byte_in": "each byte of a large frame, received",
    "task_out": "a task sent: taken from the arena, encoded",
    "task_in": "a task received: decoded, entered into the arena",
    "result_out": "its result sent",
    "result_in": "its result received, sealed, given back",
    "view_bytes": "a `View` of n nodes, in bytes instead of µs",
}


def small(results: dict[str, Any]) -> str:
    sizes = list(results["small"])
    heads = [text for nodes in sizes for text in (f"{nodes} nodes: measured", "predicted", "off by")]
    table: dict[str, list[str]] = {}
    held = count = 0
    for nodes in sizes:
        for row in small_rows(results, int(nodes)):
            off = f"{100 * row.off:+.0f} %" if row.real else "–"
            cells = [number(row.real), number(row.predicted), off if row.holds else f"**{off}**"]
            table.setdefault(row.title, []).extend(cells)
            held += row.holds
            count += 1
    lines = ["| what | " + " | ".join(heads) + " |", "|---|" + "--:|" * len(heads)]
    lines += [f"| {title} | " + " | ".join(cells) + " |" for title, cells in table.items()]
    tolerance = f"{100 * compared.TOLERANCE:.0f} %"
    return "\n".join([*lines, "", f"{held} of {count} figures are within {tolerance}; the others are bold."])


def small_rows(results: dict[str, Any], nodes: int) -> list[compared.Row]:
    first = results["small"][next(iter(results["small"]))]
    rest = compared.rest_us(first["real"], first["predicted"])
    found = results["small"][str(nodes)]
    return compared.rows(nodes, found["real"], found["predicted"], rest, results["store_command_us"])


def large(results: dict[str, Any]) -> str:
    columns = list(results["large"].values())
    heads = [f"{int(nodes):,}" for nodes in results["large"]]
    lines = ["| nodes | " + " | ".join(heads) + " |", "|---|" + "--:|" * len(heads)]
    for name, title, unit in LARGE:
        values = [found.get(name) for found in columns]
        cells = [number(None if value is None else unit * value) for value in values]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def breaks(results: dict[str, Any]) -> str:
    """Between which sizes each limit is passed."""
    lines = ["| what breaks | at how many nodes |", "|---|---|"]
    lines += [f"| {title} | {passed(results, name, limit)} |" for name, limit, title in LIMITS]
    return "\n".join(lines)


def passed(results: dict[str, Any], name: str, limit: float) -> str:
    before: int | None = None
    for nodes, found in results["large"].items():
        value = figure(found, name)
        if value is None or value > limit:
            return f"by {int(nodes):,}" if before is None else f"between {before:,} and {int(nodes):,}"
        before = int(nodes)
    return f"not by {before:,}" if before is not None else "–"


def figure(found: dict[str, Any], name: str) -> float | None:
    if name == "view_s":
        return 1 / found["idle.views"] if found["idle.views"] else None
    if name == "unused":
        return 1 - float(found["busy.used"]) if "busy.used" in found else None
    value: float | None = found.get(name)
    return value
