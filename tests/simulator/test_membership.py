"""Membership, fencing and joining again, in virtual time, over the real exchange between nodes of a model."""

from collections.abc import Callable

import pytest

from ray.node.cluster.standing import Standing
from ray.policy.cluster import fencing
from tests.chaos.attack import times
from tests.simulator.membership import TROUBLES, ClusterRun, play_cluster, story_of_cluster

SEEDS = times(full=200, short=30)  # of each kind


@pytest.mark.parametrize("kind", TROUBLES)
def test_seeds(kind: str) -> None:
    for seed in range(SEEDS):
        problems = play_cluster(seed, TROUBLES[kind])
        assert not problems, f"python -m tests.simulator {kind} {seed}: {problems[0]}"


def test_runs_are_not_empty() -> None:
    """That nothing goes wrong says little where nothing goes on."""
    deaths = rejoined = waits = 0
    for seed in range(30):
        run = ClusterRun(seed, TROUBLES["partitions"])
        watch = run.play()
        deaths += watch.deaths
        rejoined += sum(citizen.incarnations for citizen in run.citizens)
        waits += watch.waits_ended
    assert deaths > 2
    assert rejoined == deaths
    assert waits > 30 * 20


def test_a_seed_is_replayed_exactly() -> None:
    assert story_of_cluster(3, TROUBLES["all"]) == story_of_cluster(3, TROUBLES["all"])


def _without_a_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fencing, "FENCE_MS", 60_000)


def _without_asking_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Standing, "_on_inquiry", lambda standing, head, about: None)
    monkeypatch.setattr(Standing, "_on_renew", lambda standing, node, renew, now_ms: None)


# Seeds that show it; after a change of the simulator, others have to be looked for.
@pytest.mark.parametrize(
    ("without", "kind", "seeds", "shown"),
    [
        (_without_a_fence, "partitions", range(20), "and acts for others"),
        (_without_asking_peers, "cuts", range(20), "fences itself, and nothing had been done to it"),
    ],
)
def test_each_rule_is_needed(
    monkeypatch: pytest.MonkeyPatch,
    without: Callable[[pytest.MonkeyPatch], None],
    kind: str,
    seeds: range,
    shown: str,
) -> None:
    without(monkeypatch)
    assert any(shown in problem for seed in seeds for problem in play_cluster(seed, TROUBLES[kind]))
