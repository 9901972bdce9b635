"""How much a property test tries: a short form in `make test`, a long one with RAY_CHAOS=full.

Each run tries other examples and prints its RAY_SEED. Given one, a run tries the same again, and makes
an example that fails small, which may take minutes.
"""

import os
import random
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

SEED = os.environ.get("RAY_SEED")
FULL = os.environ.get("RAY_CHAOS") == "full"
LONGER = 20  # so many times the examples in the full form


def examples(short: int) -> int:
    return short * LONGER if FULL else short


def run_number() -> int:
    """The seed of this run, printed for whoever has to repeat it."""
    number = int(SEED or random.randrange(1 << 32))
    print(f"RAY_SEED={number}")
    return number


def form(short: int, steps: int = 50) -> settings:
    """So many examples; no deadline for one, and no database: machines and kernels differ."""
    return settings(
        max_examples=examples(short),
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink] if SEED else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def run_machine(machine: type[RuleBasedStateMachine], short: int, steps: int = 50) -> None:
    """Tries a machine against its model; an example that fails is printed."""
    run_state_machine_as_test(seed(run_number())(machine), settings=form(short, steps))


def random_run(test: Callable[..., Any], short: int) -> Callable[..., Any]:
    """The same for a test of `@given`."""
    return form(short)(seed(run_number())(test))
