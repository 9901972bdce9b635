"""The picture of who ran what when, drawn from the trace that `ray.timeline` writes."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

COLOURS = ("#3b6ea8", "#d9822b", "#5c9e5a", "#8d6cab", "#b0544f", "#777777")


@dataclass(frozen=True)
class Span:
    """One task in one process; seconds since the first span of the trace."""

    pid: int
    name: str
    start_s: float
    end_s: float


def read_trace(path: Path) -> list[Span]:
    """The complete events ("ph": "X", microseconds) of a trace in Chrome's format."""
    trace = json.loads(path.read_text())
    events = trace["traceEvents"] if isinstance(trace, dict) else trace
    complete = [event for event in events if event.get("ph") == "X"]
    origin = min((event["ts"] for event in complete), default=0.0)
    return sorted(
        (
            Span(
                pid=int(event["pid"]),
                name=str(event["name"]),
                start_s=(event["ts"] - origin) / 1e6,
                end_s=(event["ts"] + event["dur"] - origin) / 1e6,
            )
            for event in complete
        ),
        key=lambda span: (span.start_s, span.end_s),
    )


def draw(spans: list[Span], path: Path, title: str) -> None:
    """One row a process, one bar a task, one colour a function; written as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    rows: dict[int, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for span in spans:
        rows[span.pid][span.name].append((span.start_s, span.end_s - span.start_s))
    names = sorted({span.name for span in spans})
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
    figure, axes = pyplot.subplots(figsize=(12, 1.6 + 0.5 * len(rows)), layout="constrained")
    for row, bars in enumerate(rows.values()):
        for name, times in bars.items():
            axes.broken_barh(times, (row - 0.4, 0.8), color=colours[name])
    axes.set_yticks(range(len(rows)), [f"process {pid}" for pid in rows])
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.set_title(title)
    handles = [Patch(color=colours[name], label=name) for name in names]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
