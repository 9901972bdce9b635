"""Table and plot of a run into docs/, between marks on the page; nothing else of the page is touched."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

from report import MAIN, OURS, Line, Summary, cell

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "performance.md"
PICTURE = DOCS / "performance.svg"
BEGIN = "<!-- {}: written by make {} ARGS=--publish -->"
END = "<!-- end of {} -->"
VERDICTS = {"missed": "**missed**", "held": "held", "aim": "aim reached", "": "not compared"}


def publish(summary: Summary) -> list[Path]:
    """Returns the files that it wrote.  Raises ValueError if the page has no place for a part."""
    if failures := summary.failures():
        raise ValueError(f"a run with failures is not published: {failures[0]}")
    cluster = summary.results.get("cluster", False)
    which = " between nodes" if cluster else ""
    parts = {f"the run{which}": run(summary), f"where a peer is better{which}": ahead(summary)}
    for group, lines in summary.groups().items():
        parts[group] = table(summary, lines)
    if cluster:
        PAGE.write_text(written(PAGE.read_text(), parts, "bench-cluster"))
        return [PAGE]
    if MAIN in parts:
        parts[MAIN] += f"\n\n![How many times as good as each peer, row by row]({PICTURE.name})"
    PAGE.write_text(written(PAGE.read_text(), parts))
    plot = [sys.executable, str(Path(__file__).with_name("plot.py")), str(PICTURE)]
    subprocess.run(plot, input=json.dumps(summary.results), text=True, check=True)
    return [PAGE, PICTURE]


def written(page: str, parts: dict[str, str], target: str = "bench") -> str:
    for name, text in parts.items():
        begin, end = BEGIN.format(name, target), END.format(name)
        part = re.compile(re.escape(begin) + "\n.*?" + re.escape(end), re.DOTALL)
        new = f"{begin}\n\n{text}\n\n{end}"
        page, count = part.subn(lambda _, new=new: new, page)
        if count != 1:
            raise ValueError(f"{PAGE} has {count} places for the part {name!r}, not one")
    return page


def run(summary: Summary) -> str:
    results = summary.results
    rows = {
        "command": f"`{results['command']}`",
        "date": time.strftime("%Y-%m-%d", time.gmtime(results["when"])),
        "repeats": f"{results['repeats']}, medians"
        + ("" if results.get("cluster") else f"; {results['workers']} workers"),
        **results["machine"],
        **{
            summary.titles[name]: summary.versions[name] for name in summary.systems if summary.versions[name]
        },
    }
    return "\n".join(["| run | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def table(summary: Summary, lines: list[Line]) -> str:
    asked = [name for name in summary.systems if any(name in line.figures for line in lines)]
    heads = ["median", *(f"{summary.titles[name]} {summary.versions[name]}".strip() for name in asked)]
    barred = any(line.row.bars for line in lines)
    heads += ["at least, aim"] if barred else []
    rows = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * len(asked) + "---|" * barred]
    for line in lines:
        cells = [line.row.title]
        for name in asked:
            parts = cell(line, name).split("\n")
            cells.append(parts[0] if name == OURS else "<br>".join(parts))
        if barred:
            bars = (f"{summary.shown(bar, line)}: {VERDICTS[line.verdict(bar)]}" for bar in line.row.bars)
            cells.append("<br>".join(bars))
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def ahead(summary: Summary) -> str:
    return "\n".join(f"- {each}" for each in summary.peers_ahead()) or "Nowhere."
