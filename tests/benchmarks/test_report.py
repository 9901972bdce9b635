"""What a run's results come to: held and missed bars, who is better, the page and the picture."""

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

PAGE = """# Performance

<!-- the run: written by make bench ARGS=--publish -->
<!-- end of the run -->
Prose.
<!-- The same work, side by side: written by make bench ARGS=--publish -->
old
<!-- end of The same work, side by side -->
<!-- where a peer is better: written by make bench ARGS=--publish -->
<!-- end of where a peer is better -->
"""


def answer(**figures: list[float]) -> dict[str, Any]:
    return {"figures": figures, "found": ""}


@pytest.fixture
def results() -> dict[str, Any]:
    return {
        "command": "make bench",
        "when": 0.0,
        "took_s": 1.0,
        "machine": {"processor": "P", "cores": "2"},
        "repeats": 3,
        "workers": 2,
        "packages": {
            "pypi_ray": ["ray==2.60.0"],
            "raycore": ["raycore==0.1.0"],
            "pool": [],
            "loky": ["loky==3"],
        },
        "answers": {
            "pipelined_tasks": {
                "raycore": answer(pipelined_tasks=[1, 100_000, 999_999]),
                "pypi_ray": answer(pipelined_tasks=[1, 1000, 9999]),
                "pool": answer(pipelined_tasks=[50_000, 50_000, 50_000]),
            },
            "chain": {
                "raycore": answer(chain=[60_000, 60_000, 60_000]),
                "pypi_ray": answer(chain=[600]),
                "loky": {"left_out": "cannot: dependencies"},
            },
            "start": {
                "raycore": answer(first_result=[0.1], whole_script=[0.3], **{"import": [0.05]}),
                "pool": answer(first_result=[0.05], whole_script=[0.4], **{"import": [0.06]}),
            },
        },
    }


def summary(benchmarks: SimpleNamespace, results: dict[str, Any]) -> Any:
    return benchmarks.report.Summary(results)


def test_medians_decide_and_missed_bars_are_named(
    benchmarks: SimpleNamespace, results: dict[str, Any]
) -> None:
    found = summary(benchmarks, results)
    assert found.missed() == [
        "10,000 noop tasks submitted, then got: 100,000/s is not 3 x, aim 8 x Pool",
    ]
    results["answers"]["pipelined_tasks"]["raycore"]["figures"]["pipelined_tasks"][1] = 79_999
    assert len(summary(benchmarks, results).missed()) == 2


def test_a_bar_is_held_or_its_aim_reached(benchmarks: SimpleNamespace, results: dict[str, Any]) -> None:
    lines = {line.row.name: line for line in summary(benchmarks, results).lines}
    verdicts = {name: [line.verdict(bar) for bar in line.row.bars] for name, line in lines.items()}
    assert verdicts["pipelined_tasks"] == ["held", "missed"]
    assert verdicts["chain"] == ["held"]
    assert verdicts["first_result"] == ["aim"]


def test_rows_where_a_peer_is_better_are_named(benchmarks: SimpleNamespace, results: dict[str, Any]) -> None:
    assert summary(benchmarks, results).peers_ahead() == [
        "import, init and first result: Pool 50 ms, raycore 100 ms"
    ]


def test_a_row_says_who_cannot_and_who_had_fewer_repeats(
    benchmarks: SimpleNamespace, results: dict[str, Any]
) -> None:
    lines = {line.row.name: line for line in summary(benchmarks, results).lines}
    assert benchmarks.report.cell(lines["chain"], "loky") == "—"
    assert benchmarks.report.cell(lines["chain"], "pypi_ray") == "600/s\n100 x (1 of 3 repeats)"
    assert benchmarks.report.cell(lines["pipelined_tasks"], "raycore") == "100,000/s\n1/s to 999,999/s"


def test_a_failure_is_no_missed_bar_but_is_told(benchmarks: SimpleNamespace, results: dict[str, Any]) -> None:
    results["answers"]["chain"]["raycore"] = {"failed": "it broke"}
    found = summary(benchmarks, results)
    assert found.failures() == ["chain, raycore: it broke"]
    with pytest.raises(ValueError, match="it broke"):
        benchmarks.publish.publish(found)


def test_different_answers_are_a_failure(benchmarks: SimpleNamespace, results: dict[str, Any]) -> None:
    for name, said in (("raycore", "80 trials"), ("pool", "79 trials")):
        results["answers"]["start"][name]["found"] = said
    assert summary(benchmarks, results).failures() == [
        "start: the systems' results differ: 79 trials, 80 trials"
    ]


def test_the_terminal_shows_it_all(benchmarks: SimpleNamespace, results: dict[str, Any]) -> None:
    console = Console(width=160)
    with console.capture() as capture:
        benchmarks.report.show(console, summary(benchmarks, results))
    text = capture.get()
    assert "chain of 1,000 dependent tasks" in text
    assert "A peer is better: 1\n  import, init and first result: Pool 50 ms, raycore 100 ms" in text
    assert "Below the bar: 1\n" in text
    assert "Failed: nowhere" in text


def test_a_page_is_changed_between_its_marks_only(
    benchmarks: SimpleNamespace, results: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = benchmarks.publish
    page, picture = tmp_path / "performance.md", tmp_path / "performance.svg"
    monkeypatch.setattr(publish, "PAGE", page)
    monkeypatch.setattr(publish, "PICTURE", picture)
    page.write_text(PAGE)
    assert publish.publish(summary(benchmarks, results)) == [page, picture]
    text = page.read_text()
    assert "| chain of 1,000 dependent tasks | 60,000/s | 600/s<br>100 x (1 of 3 repeats) |" in text
    assert "Prose." in text
    assert "old" not in text
    assert "<svg" in picture.read_text()
    before = picture.read_bytes()
    publish.publish(summary(benchmarks, results))
    assert page.read_text() == text
    assert picture.read_bytes() == before


def test_a_page_without_a_place_is_refused(benchmarks: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="0 places for the part 'the run'"):
        benchmarks.publish.written("# Performance", {"the run": "text"})


def test_left_out_peers(benchmarks: SimpleNamespace) -> None:
    run = importlib.import_module("run")
    question = importlib.import_module("questions.queued_tasks")
    dask = importlib.import_module("peers.dask")
    assert run.left_out(question, "dask", dask, SimpleNamespace(patient=False)) == "five minutes a repeat"
    assert run.left_out(question, "dask", dask, SimpleNamespace(patient=True)) == ""
    chain = importlib.import_module("questions.chain")
    pool = importlib.import_module("peers.pool")
    assert run.left_out(chain, "pool", pool, SimpleNamespace(patient=True)) == "cannot: dependencies"
