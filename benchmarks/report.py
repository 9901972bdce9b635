"""The table of a run, and which floors were missed."""

import statistics
from typing import Any

from floors import ratio
from rich.console import Console
from rich.table import Table

OURS = "raycore"
Answers = dict[str, dict[str, dict[str, Any]]]  # question, peer: what the harness wrote


def medians(answers: dict[str, dict[str, Any]]) -> dict[str, float]:
    return {peer: statistics.median(answer["figures"]) for peer, answer in answers.items()}


def missed(questions: dict[str, Any], answers: Answers) -> list[str]:
    """A sentence for each floor that was not reached."""
    found = []
    for name, question in questions.items():
        figures = medians(answers.get(name, {}))
        if question.FLOOR is None or OURS not in figures:
            continue
        if question.FLOOR.reached(figures[OURS], figures, question.UNIT) is False:
            found.append(f"{question.TITLE}: {shown(figures[OURS], question.UNIT)} is not {question.FLOOR}")
    return found


def table(peers: dict[str, Any], questions: dict[str, Any], answers: Answers, title: str) -> Table:
    grid = Table(title=title)
    grid.add_column("median (lowest to highest)")
    others = [name for name in peers if name != OURS]
    for name in (OURS, *others):
        version = next((each[name]["version"] for each in answers.values() if name in each), "")
        grid.add_column(f"{peers[name].TITLE} {version}", justify="right")
        if name != OURS:
            grid.add_column("ratio", justify="right")
    grid.add_column("floor", justify="right")
    for name, question in questions.items():
        figures = medians(answers.get(name, {}))
        ours = figures.get(OURS)
        row = [question.TITLE, spread(answers[name].get(OURS), question.UNIT)]
        for other in others:
            row.append(spread(answers[name].get(other), question.UNIT))
            both = ours is not None and other in figures
            row.append(f"{ratio(ours or 0, figures[other], question.UNIT):.1f} x" if both else "")
        row.append(_floor_shown(question, ours, figures))
        grid.add_row(*row)
    return grid


def _floor_shown(question: Any, ours: float | None, figures: dict[str, float]) -> str:
    if question.FLOOR is None or ours is None:
        return ""
    reached = question.FLOOR.reached(ours, figures, question.UNIT)
    if reached is None:
        return f"{question.FLOOR} (not compared)"
    return f"[green]{question.FLOOR}[/]" if reached else f"[bold red]{question.FLOOR} MISSED[/]"


def spread(answer: dict[str, Any] | None, unit: str) -> str:
    if answer is None:
        return "-"
    figures = answer["figures"]
    middle = shown(statistics.median(figures), unit)
    return f"{middle} ({shown(min(figures), '')} to {shown(max(figures), '')})"


def shown(figure: float, unit: str) -> str:
    text = f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
    return f"{text} {unit}".strip()


def show(console: Console, grid: Table, problems: list[str]) -> None:
    console.print(grid)
    for problem in problems:
        console.print(f"[bold red]Below the floor:[/] {problem}")
