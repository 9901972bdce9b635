"""What a run found: medians, ratios, which bars were held, and where a peer is better."""

import importlib
import statistics
from dataclasses import dataclass
from typing import Any

from bars import Bar, Row, ratio
from rich.console import Console
from rich.markup import escape
from rich.table import Table

OURS = "raycore"
MAIN = "The same work, side by side"


@dataclass(frozen=True)
class Line:
    """One row with its medians by system; `notes` say why one has none, or how many repeats it had."""

    row: Row
    group: str
    figures: dict[str, float]
    spreads: dict[str, tuple[float, float]]
    notes: dict[str, str]

    @property
    def ours(self) -> float | None:
        return self.figures.get(OURS)

    @property
    def peers(self) -> dict[str, float]:
        return {name: figure for name, figure in self.figures.items() if name != OURS}

    def ratio_to(self, peer: str) -> float | None:
        if self.ours is None or peer not in self.peers or not self.row.compared:
            return None
        return ratio(self.ours, self.peers[peer], self.row.unit)

    def verdict(self, bar: Bar) -> str:
        """missed, held, or aim; empty when there is nothing to compare with."""
        if self.ours is None:
            return ""
        unit = self.row.unit
        held = bar.reached(bar.least, self.ours, self.peers, unit)
        if held is None:
            return ""
        if bar.aim is not None and bar.reached(bar.aim, self.ours, self.peers, unit):
            return "aim"
        return "held" if held else "missed"


class Summary:
    """The results of a run (the JSON that run.py writes), row by row."""

    def __init__(self, results: dict[str, Any]) -> None:
        self.results = results
        self.systems = [OURS, *(name for name in results["packages"] if name != OURS)]
        peers = {name: importlib.import_module(f"peers.{name}") for name in self.systems}
        self.titles = {name: peer.TITLE for name, peer in peers.items()}
        self.versions = {name: _version(peers[name], results["packages"][name]) for name in self.systems}
        self.lines = [
            line_of(row, group_of(question), results["answers"][name])
            for name in results["answers"]
            for question in [importlib.import_module(f"questions.{name}")]
            for row in question.ROWS
        ]

    def groups(self) -> dict[str, list[Line]]:
        found: dict[str, list[Line]] = {}
        for line in self.lines:
            found.setdefault(line.group, []).append(line)
        return dict(sorted(found.items(), key=lambda item: item[0] != MAIN))

    def missed(self) -> list[str]:
        """A sentence for each bar that was not reached."""
        return [
            f"{line.row.title}: {line.row.unit.shown(line.figures[OURS])} is not {self.shown(bar, line)}"
            for line in self.lines
            for bar in line.row.bars
            if line.verdict(bar) == "missed"
        ]

    def below_the_aim(self) -> list[str]:
        return [
            f"{line.row.title}: {line.row.unit.shown(line.figures[OURS])}, {self.shown(bar, line)}"
            for line in self.lines
            for bar in line.row.bars
            if bar.aim is not None and line.verdict(bar) in ("held", "missed")
        ]

    def peers_ahead(self) -> list[str]:
        """A sentence for each row in which any peer is better than we are."""
        found = []
        for line in self.lines:
            for peer, figure in line.peers.items():
                times = line.ratio_to(peer)
                if times is not None and times < 1:
                    ours, theirs = (line.row.unit.shown(each) for each in (line.figures[OURS], figure))
                    found.append(
                        f"{line.row.title}: {self.titles[peer]} {theirs}, {self.titles[OURS]} {ours}"
                    )
        return found

    def failures(self) -> list[str]:
        return [
            f"{question}, {self.titles[name]}: {answer['failed']}"
            for question, answers in self.results["answers"].items()
            for name, answer in answers.items()
            if "failed" in answer
        ] + disagreements(self.results["answers"])

    def shown(self, bar: Bar, line: Line) -> str:
        """The bar and the aim, and how far ours is."""
        unit = line.row.unit
        text = bar.shown(bar.least, unit)
        if bar.aim is not None:
            text += f", aim {bar.shown(bar.aim, unit)}"
        if bar.peer in self.titles:
            text += f" {self.titles[bar.peer]}"
        return text


def disagreements(answers: dict[str, dict[str, Any]]) -> list[str]:
    """Questions whose answers must be the same in every system, and are not."""
    found = []
    for question, by_system in answers.items():
        said = {answer["found"] for answer in by_system.values() if answer.get("found")}
        if len(said) > 1:
            found.append(f"{question}: the systems' results differ: {', '.join(sorted(said))}")
    return found


def group_of(question: Any) -> str:
    return str(getattr(question, "GROUP", MAIN))


def line_of(row: Row, group: str, answers: dict[str, Any]) -> Line:
    figures: dict[str, float] = {}
    spreads: dict[str, tuple[float, float]] = {}
    notes: dict[str, str] = {}
    most = max((len(answer.get("figures", {}).get(row.name, [])) for answer in answers.values()), default=0)
    for name, answer in answers.items():
        if found := answer.get("figures", {}).get(row.name):
            figures[name] = statistics.median(found)
            spreads[name] = min(found), max(found)
            if len(found) < most:
                notes[name] = f"{len(found)} of {most} repeats"
        else:
            notes[name] = answer.get("left_out") or ("failed" if "failed" in answer else "")
    return Line(row, group, figures, spreads, notes)


def _version(peer: Any, packages: list[str]) -> str:
    name = peer.PACKAGES[0] if peer.PACKAGES else "raycore"
    return next((each.partition("==")[2] for each in packages if each.startswith(f"{name}==")), "")


def line(title: str, question: Any, answer: dict[str, Any]) -> str:
    """What to say when one system has answered one question."""
    if "failed" in answer:
        return f"{title}: FAILED"
    found = (
        f"{row.unit.shown(statistics.median(figures))}"
        for row in question.ROWS
        if (figures := answer["figures"].get(row.name))
    )
    return f"{title}: {', '.join(found)}"


COLOURS = {"missed": "bold red", "held": "green", "aim": "bold green", "": "dim"}


def table(summary: Summary, group: str, lines: list[Line]) -> Table:
    asked = [name for name in summary.systems if any(name in line.figures for line in lines)]
    grid = Table(title=group, show_lines=len(asked) > 1)
    grid.add_column("median")
    for name in asked:
        grid.add_column(f"{summary.titles[name]} {summary.versions[name]}".strip(), justify="right")
    barred = any(line.row.bars for line in lines)
    if barred:
        grid.add_column("bar")
    for line in lines:
        cells = [escape(line.row.title)]
        cells += [escape(cell(line, name)) for name in asked]
        bars = [
            f"[{COLOURS[verdict]}]{summary.shown(bar, line)}: {verdict or 'not compared'}[/]"
            for bar in line.row.bars
            for verdict in [line.verdict(bar)]
        ]
        grid.add_row(*cells, *(["\n".join(bars)] if barred else []))
    return grid


def cell(line: Line, name: str) -> str:
    """The median; below it ours' spread, or how many times as good as this ours is."""
    if name not in line.figures:
        note = line.notes.get(name, "")
        return "—" if note.startswith("cannot") else note
    text = line.row.unit.shown(line.figures[name])
    if name == OURS:
        low, high = (line.row.unit.shown(each) for each in line.spreads[name])
        return text if low == high else f"{text}\n{low} to {high}"
    times = line.ratio_to(name)
    below = [times_shown(times)] if times is not None else []
    if note := line.notes.get(name):
        below.append(f"({note})")
    return "\n".join([text, " ".join(below)]).strip()


def times_shown(times: float) -> str:
    if times == float("inf"):
        return "∞ x"
    return f"{times:,.0f} x" if times >= 100 else f"{times:.3g} x"


def show(console: Console, summary: Summary) -> None:
    results = summary.results
    described = ", ".join(f"{key} {value}" for key, value in results["machine"].items())
    console.print(f"{results['workers']} workers, {results['repeats']} repeats; {described}", highlight=False)
    for group, lines in summary.groups().items():
        if any(line.figures for line in lines):
            console.print(table(summary, group, lines))
    for heading, style, found in (
        ("A peer is better", "bold yellow", summary.peers_ahead()),
        ("Below the aim", "yellow", summary.below_the_aim()),
        ("Below the bar", "bold red", summary.missed()),
        ("Failed", "bold red", summary.failures()),
    ):
        console.print(f"[{style}]{heading}:[/] {len(found) or 'nowhere'}")
        for each in found:
            console.print(f"  {escape(each)}", highlight=False)
