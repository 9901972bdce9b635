"""Numbers stay right: random samples of workers differ, and BLAS threads follow the task's CPUs."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ray
from tests.api.meeting import meet

Init = Callable[..., dict[str, Any]]
WORKERS = 4


@pytest.mark.statement("more-numbers-01")
def test_no_two_workers_draw_the_same_sample(init: Init, tmp_path: Path) -> None:
    """Four workers at once, though all were forked from one process that has loaded numpy."""
    random.seed(1)
    np.random.seed(1)
    init(num_cpus=WORKERS)

    @ray.remote
    def draws() -> tuple[float, float, bytes]:
        assert meet(str(tmp_path), WORKERS)
        return random.random(), float(np.random.random()), np.random.default_rng().bytes(8)

    samples = ray.get([draws.remote() for _ in range(WORKERS)])
    for source in zip(*samples, strict=True):
        assert len(set(source)) == WORKERS
    assert random.random() not in [sample[0] for sample in samples]


@pytest.mark.statement("more-numbers-02")
def test_blas_threads_follow_the_cpus(init: Init) -> None:
    from threadpoolctl import threadpool_info

    init(num_cpus=4)

    def threads() -> list[int]:
        np.ones((8, 8)) @ np.ones((8, 8))
        return [int(pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas"]

    for cpus in (1, 2, 1, 0.5):
        found = ray.get(ray.remote(num_cpus=cpus)(threads).remote())
        assert found
        assert set(found) == {max(1, int(cpus))}


@pytest.mark.statement("more-numbers-02")
def test_a_users_own_setting_wins(programs: Any) -> None:
    done = programs.run(
        """
        import numpy, ray
        from threadpoolctl import threadpool_info
        ray.init(num_cpus=2)
        found = ray.get(ray.remote(threadpool_info).remote())
        print({pool["num_threads"] for pool in found if pool["user_api"] == "blas"})
        """,
        env={"OPENBLAS_NUM_THREADS": "2"},
    )
    assert done.out == "{2}\n"
