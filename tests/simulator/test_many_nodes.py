"""The real exchange between nodes of a model: no reachable object freed, none kept, every wait ends."""

import pytest

from tests.chaos.attack import times
from tests.simulator.scenario import DEATHS, KINDS, Run, play, story

SEEDS = times(full=1_000, short=100)  # of each kind


@pytest.mark.parametrize("kind", KINDS)
def test_seeds(kind: str) -> None:
    for seed in range(SEEDS):
        problems = play(seed, KINDS[kind])
        assert not problems, f"python -m tests.simulator {kind} {seed}: {problems[0]}"


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_of_five_nodes(kind: str) -> None:
    for seed in range(times(full=100, short=5)):
        problems = play(seed, KINDS[kind], nodes=5)
        assert not problems, f"python -m tests.simulator --nodes 5 {kind} {seed}: {problems[0]}"


def test_a_seed_is_replayed_exactly() -> None:
    assert story(7, DEATHS) == story(7, DEATHS)
    assert story(7, DEATHS) != story(8, DEATHS)


def test_runs_are_not_empty() -> None:
    """That nothing goes wrong says little where nothing goes on."""
    tasks = waits = messages = deaths = 0
    for seed in range(30):
        run = Run(seed, DEATHS)
        watch = run.play()
        tasks += len(watch.executions)
        waits += watch.waits_ended
        messages += run.network.sent
        deaths += watch.deaths
        assert watch.waits_ended >= watch.waits_begun
    assert tasks > 30 * 20
    assert waits > 30 * 10
    assert messages > 30 * 100
    assert deaths > 5


def test_without_deaths_each_task_runs_once() -> None:
    for seed in range(50):
        run = Run(seed, KINDS["broken-links"])
        assert set(run.play().executions.values()) == {1}
