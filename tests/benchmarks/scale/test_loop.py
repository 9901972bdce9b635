"""What a simulated event loop costs: turns, steps, and looks before it sleeps."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.scale import loop, page, workload
from benchmarks.scale.costs import Costs, Step
from benchmarks.scale.loop import Cores, Loop, Patience, Wires
from tests.benchmarks.scale.test_predictions import COSTS
from tests.simulator.world import World

NUMBERS = Path(__file__).parents[3] / "kernel" / "numbers.hpp"
CHEAP = replace(COSTS, turn=100.0, look=Step(50.0, 5.0), frame_in=0.0, frame_out=0.0)


class Looking(Loop):
    """Does nothing but to look."""

    def look(self, times: int = 1) -> None:
        self.post(lambda: self.spend("look", times))


def looking() -> tuple[World, Looking]:
    world = World(1)
    looks = Looking(b"loop", world, Wires(world), Cores(world, 1), CHEAP)
    world.run(1_000_000)
    return world, looks


def test_it_is_as_patient_as_the_kernel() -> None:
    header = NUMBERS.read_text()

    def number(name: str) -> int:
        found = re.search(rf" {name} = ([\d']+);", header)
        assert found
        return int(found[1].replace("'", ""))

    assert number("EARS_SPIN_NS") == 1_000 * loop.EARS_SPIN_US
    assert number("WOKEN_NS") == 1_000 * loop.WOKEN_US
    assert number("SPINS_IN_VAIN") == loop.SPINS_IN_VAIN
    assert number("SPINS_ANYWAY") == loop.SPINS_ANYWAY


def test_looks_in_vain_end_and_begin_again() -> None:
    patience = Patience()
    looked = [patience.waited(10_000) for _ in range(loop.SPINS_ANYWAY + 1)]
    in_vain = [loop.EARS_SPIN_US] * loop.SPINS_IN_VAIN
    assert looked == [*in_vain, *[0] * (loop.SPINS_ANYWAY - loop.SPINS_IN_VAIN), loop.EARS_SPIN_US]
    assert patience.waited(200) == 0  # short, but it slept at once
    assert patience.waited(30) == 30


def test_a_step_costs_more_after_a_wait() -> None:
    world, looks = looking()
    before_us = looks.traffic.cpu_us
    looks.look()
    looks.look(3)
    looks.look(0)
    world.run(world.now_us + 50)
    looks.look()  # amid that turn: it follows without a wait
    world.run(world.now_us + 10_000)
    looked_us = loop.EARS_SPIN_US
    assert looks.traffic.cpu_us - before_us == pytest.approx(looked_us + 100 + (50 + 3 * 5) + 5)
    looks.look()
    world.run(world.now_us + 10_000)
    assert looks.traffic.cpu_us - before_us == pytest.approx(2 * looked_us + 170 + 100 + 50)


def test_costs_of_another_version_are_refused() -> None:
    assert Costs.read(COSTS.rows()) == COSTS
    with pytest.raises(TypeError, match="task_in has one figure, not two"):
        Costs.read({**COSTS.rows(), "task_in": 4.0})


def test_both_figures_of_a_step_are_shown() -> None:
    assert "| 200, then 4 |" in page.costs({"costs": COSTS.rows()})


def test_a_mean_is_of_all_runs() -> None:
    assert workload.mean([{"a": 1.0, "b": 2.0}, {"a": 3.0}]) == {"a": 2.0, "b": 1.0}
