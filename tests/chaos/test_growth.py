"""The growth check itself: what grows is found, what only trembles is not."""

import random
from collections.abc import Callable

from tests.chaos.growth import Bound, Series

MOMENTS = range(0, 1000, 10)
BOUND = Bound(12.0, "MiB", share=0.10)


def series(value_at: Callable[[int], float]) -> Series:
    made = Series()
    for moment in MOMENTS:
        made.add(float(moment), {"memory": value_at(moment)})
    return made


def grows(made: Series) -> bool:
    return made.growth("memory") > made.allowed("memory", BOUND)


def test_a_slow_leak_is_found_under_noise() -> None:
    chance = random.Random(1)
    assert grows(series(lambda moment: 50 + 0.03 * moment + chance.uniform(-5, 5)))


def test_noise_is_no_growth() -> None:
    chance = random.Random(2)
    assert not grows(series(lambda moment: 50 + chance.uniform(-20, 20)))


def test_a_start_that_finds_its_size_is_no_growth() -> None:
    assert not grows(series(lambda moment: min(100.0, 1.0 * moment)))


def test_single_peaks_are_no_growth() -> None:
    assert not grows(series(lambda moment: 500.0 if moment % 100 == 0 else 50.0))


def test_few_samples_say_nothing() -> None:
    made = Series()
    assert made.growth("memory") == 0
    made.add(0.0, {"memory": 1.0})
    assert made.growth("memory") == 0
