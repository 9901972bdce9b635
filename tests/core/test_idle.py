"""A driver that makes no call any more: what it dropped last goes all the same."""

import time

import pytest

import ray
from ray import _kernel

LONGEST_S = 1.0


@pytest.mark.quiet
def test_an_idle_driver_lets_go_of_what_it_dropped_last() -> None:
    ray.init(num_cpus=1)
    try:
        current = _kernel.current()
        assert current is not None
        other = _kernel.Arena.attach(current.fd)  # its look at the tables is no call of the driver's

        def objects() -> int:
            return other.stats()["objects"]

        before = objects()
        for _ in range(3):
            ids = [ray.put(number) for number in range(30)]
            assert objects() == before + 30
            dropped = time.monotonic()
            del ids
            while objects() != before and time.monotonic() - dropped < 10 * LONGEST_S:
                time.sleep(0.01)
            assert time.monotonic() - dropped < LONGEST_S
        other.leave()
    finally:
        ray.shutdown()
