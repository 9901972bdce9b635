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
