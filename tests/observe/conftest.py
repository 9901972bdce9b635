"""Sessions for the tests of what is seen of errors and tasks."""

from collections.abc import Iterator

import pytest

import ray


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """One session of two CPUs for a module's tests."""
    ray.init(num_cpus=2, driver_mode=ray.SILENT_MODE)
    yield
    ray.shutdown()
