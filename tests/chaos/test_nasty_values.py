"""Exceptions, values and deaths that are as nasty as can be; the driver is `nasty.py`."""

from pathlib import Path

from tests.chaos.attack import Attack, times

DRIVER = (Path(__file__).parent / "nasty.py").read_text()


def test_nasty_values(attack: Attack) -> None:
    for _ in range(times(full=5, short=1)):  # in another order each time
        attack.run(DRIVER)
