"""Ratios, and when a bar is held."""

from types import SimpleNamespace

import pytest


def test_ratio_is_above_one_when_ours_is_better(benchmarks: SimpleNamespace) -> None:
    bars = benchmarks.bars
    assert bars.ratio(300, 10, bars.RATE) == 30
    assert bars.ratio(0.5, 5, bars.SECONDS) == 10
    assert bars.ratio(0, 5, bars.PERCENT) == float("inf")


def test_a_bar_against_a_peer(benchmarks: SimpleNamespace) -> None:
    bars = benchmarks.bars
    bar = bars.Bar(30, 50, "pypi_ray")
    assert bar.reached(bar.least, 3000, {"pypi_ray": 100}, bars.RATE) is True
    assert bar.reached(bar.least, 2999, {"pypi_ray": 100}, bars.RATE) is False
    assert bar.reached(bar.aim, 3000, {"pypi_ray": 100}, bars.RATE) is False
    assert bar.reached(bar.least, 2999, {"dask": 1}, bars.RATE) is None


def test_a_bar_by_itself(benchmarks: SimpleNamespace) -> None:
    bars = benchmarks.bars
    assert bars.Bar(0.6).reached(0.6, 0.6, {}, bars.SECONDS) is True
    assert bars.Bar(0.6).reached(0.6, 0.61, {}, bars.SECONDS) is False
    assert bars.Bar(0.6).reached(0.6, 0.61, {}, bars.SHARE) is True


def test_to_be_fastest_is_to_beat_the_best_peer(benchmarks: SimpleNamespace) -> None:
    bars = benchmarks.bars
    bar = bars.Bar(1, None, bars.BEST)
    assert bar.reached(1, 2.0, {"pool": 2.1, "dask": 9.0}, bars.SECONDS) is True
    assert bar.reached(1, 2.2, {"pool": 2.1, "dask": 9.0}, bars.SECONDS) is False
    assert bar.reached(1, 2.2, {}, bars.SECONDS) is None


@pytest.mark.parametrize(
    ("unit", "figure", "text"),
    [
        ("SECONDS", 0.0000123, "12.3 µs"),
        ("SECONDS", 0.5, "500 ms"),
        ("SECONDS", 2.25, "2.25 s"),
        ("RATE", 123456.7, "123,457/s"),
        ("BANDWIDTH", 9.71, "9.71 GiB/s"),
    ],
)
def test_figures_as_people_read_them(
    benchmarks: SimpleNamespace, unit: str, figure: float, text: str
) -> None:
    assert getattr(benchmarks.bars, unit).shown(figure) == text
