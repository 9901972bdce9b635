"""The real exchange between nodes of a model: no reachable object freed, none kept, every wait ends."""

from collections.abc import Callable
from typing import Any

import pytest

from ray.node.cluster import exchange
from ray.node.cluster.burials import Burials
from ray.node.cluster.loans import Loans
from ray.policy.cluster.draining import Drain
from tests.chaos.attack import times
from tests.simulator.machine import Machine
from tests.simulator.model_arena import ModelArena
from tests.simulator.scenario import DEATHS, KINDS, Run, play, story

SEEDS = times(full=1_000, short=160)  # of each kind: with the others here more than a thousand in each run
SHARE = {"actors": 2, "actors-and-deaths": 2}  # which take longer, and have so much less each


@pytest.mark.parametrize("kind", KINDS)
def test_seeds(kind: str) -> None:
    for seed in range(SEEDS // SHARE.get(kind, 1)):
        problems = play(seed, KINDS[kind])
        assert not problems, f"python -m tests.simulator {kind} {seed}: {problems[0]}"


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_of_five_nodes(kind: str) -> None:
    for seed in range(times(full=100, short=5) // SHARE.get(kind, 1)):
        problems = play(seed, KINDS[kind], nodes=5)
        assert not problems, f"python -m tests.simulator --nodes 5 {kind} {seed}: {problems[0]}"


def _as_if_none_were_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loans, "is_own", lambda loans, key: False)


def _with_late_news(monkeypatch: pytest.MonkeyPatch) -> None:
    def take_news(machine: Machine) -> None:
        news: list[Any] = machine.arena.news(100, 0)
        exchange = machine.exchange

        def tell() -> None:
            if machine.alive and machine.exchange is exchange:
                machine._do(exchange.on_news, news)

        if news:
            machine.world.after(machine.world.random.randrange(1, 300), tell)

    monkeypatch.setattr(Machine, "_take_news", take_news)


def _with_lost_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Drain, "unlinked", lambda drain, node: None)


def _taken_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Drain, "returned", lambda drain, node, ids: None)


def _with_calls_that_overtake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that come back go to the end of their lane."""

    def unsend(arena: ModelArena, task: Any) -> None:
        lane = task.lane
        lane.calls.remove(task.id)
        lane.away -= 1
        lane.calls.append(task.id)
        arena._make_ready(task)
        arena._go_on(arena._actors[task.actor], lane)

    monkeypatch.setattr(ModelArena, "_unsend", unsend)


def _with_returns_that_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "SERVED_INDEX", b"none")


def _without_asking_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Burials, "_without_value", lambda each, dead: {})


# Seeds that show it; after a change of the simulator, others have to be looked for.
@pytest.mark.parametrize(
    ("without", "kind", "seed", "shown"),
    [
        (_as_if_none_were_dead, "deaths", 5, "keeps what nobody can reach"),
        (_with_late_news, "broken-links", 2084, "was returned 2 times"),
        (_with_lost_offers, "drains", 15, "still busy"),
        (_taken_for_good, "drains", 2621, "and no node has died"),
        (_without_asking_others, "deaths", 5, "is lost, and"),
        (_with_calls_that_overtake, "actors", 2, "is late"),
        (_with_returns_that_are_not_repeated, "actors", 22, "keeps what nobody can reach"),
    ],
)
def test_each_rule_is_needed(
    monkeypatch: pytest.MonkeyPatch,
    without: Callable[[pytest.MonkeyPatch], None],
    kind: str,
    seed: int,
    shown: str,
) -> None:
    without(monkeypatch)
    problems = play(seed, KINDS[kind])
    assert problems
    assert shown in problems[0]


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


def test_runs_with_actors_are_not_empty() -> None:
    """Calls go to other nodes, come back to their lanes, and some actors are killed there."""
    sent = came_back = ran = killed = 0
    for seed in range(30):
        run = Run(seed, KINDS["actors"])
        watch = run.play()
        ran += len(watch.calls.made) - len(watch.calls.made.keys() - watch.executions.keys())
        killed += len(watch.killed)
        for machine in run.machines:
            sent += machine.arena.calls_sent
            came_back += machine.arena.calls_come_back
    assert ran > 30 * 10
    assert sent > 30 * 5
    assert came_back > 10
    assert killed > 10


def test_without_deaths_each_task_runs_once() -> None:
    for seed in range(50):
        run = Run(seed, KINDS["broken-links"])
        assert set(run.play().executions.values()) == {1}
