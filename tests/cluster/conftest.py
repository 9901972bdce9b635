"""A cluster of several nodes on this machine, and a driver that has joined its head."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import ray
from ray.testing import LocalCluster

MakeCluster = Callable[..., LocalCluster]


@pytest.fixture
def make_cluster() -> Iterator[MakeCluster]:
    """Starts a cluster as `LocalCluster` does and joins its head; both end with the test."""
    with ExitStack() as stack:

        def make(nodes: int, **options: Any) -> LocalCluster:
            cluster = stack.enter_context(LocalCluster(nodes, **options))
            stack.callback(ray.shutdown)
            ray.init(redis_address=cluster.address)
            return cluster

        yield make


@pytest.fixture(scope="module")
def standing() -> Iterator[LocalCluster]:
    """Three nodes for tests that leave them as they are; the last of them alone has a custom resource."""
    with LocalCluster(2, object_store_memory=256 << 20) as cluster:
        cluster.add_node(num_custom_resource=1)
        yield cluster


@pytest.fixture
def joined(standing: LocalCluster) -> Iterator[LocalCluster]:
    """The same with a driver, of its own for each test, at its head."""
    ray.init(redis_address=standing.address)
    yield standing
    ray.shutdown()
