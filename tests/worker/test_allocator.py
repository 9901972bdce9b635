"""Memory that a worker frees in each step of a loop is there for the next step."""

import resource

import numpy as np

import ray


def faults_a_step(steps: int) -> float:
    rows = np.ones((1024, 192), np.float32)
    np.maximum(rows * 2, 0).sum()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        np.maximum(rows * 2, 0).sum()  # two temporaries of 768 KiB
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / steps


def test_temporaries_of_a_loop_cause_no_page_faults() -> None:
    ray.init(num_cpus=1)
    try:
        # Each temporary has 192 pages.
        assert ray.get(ray.remote(faults_a_step).remote(50)) < 20
    finally:
        ray.shutdown()
