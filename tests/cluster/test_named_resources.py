"""A resource of the cluster's own, by its name."""

import os
from collections.abc import Iterator

import pytest

import ray
from ray.errors import ArgumentError, InfeasibleResourcesError, InitError
from ray.testing import LocalCluster
from tests.cluster.events import PATIENCE_MS


@ray.remote(resources={"licence": 1})
def licensed() -> str:
    return os.environ["RAY_SESSION"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two nodes, of which the second has two licences, and a driver at the head."""
    with LocalCluster(1, resources={"licence": 0}) as running:
        running.add_node(resources={"licence": 2})
        ray.init(redis_address=running.address)
        yield running
        ray.shutdown()


def test_tasks_run_where_it_is(cluster: LocalCluster) -> None:
    places = ray.get([licensed.remote() for _ in range(8)], timeout=PATIENCE_MS)
    assert set(places) == {cluster.nodes[1].record.token}


def test_a_name_that_the_cluster_does_not_know_is_told_at_once(cluster: LocalCluster) -> None:
    with pytest.raises(InfeasibleResourcesError) as refused:
        licensed.options(resources={"tape": 1}).remote()
    assert refused.value.asked == {"CPU": 1.0, "tape": 1.0}


def test_a_node_may_not_count_another(cluster: LocalCluster) -> None:
    with pytest.raises(InitError, match="'tape'; the cluster's is licence"):
        cluster.add_node(resources={"tape": 1})
    plain = cluster.add_node()
    assert plain.record.custom_resource_name == "licence"
    cluster.stop_node(plain)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"resources": {"licence": 1, "tape": 1}}, "these are 2"),
        ({"resources": {"GPU": 1}}, "num_gpus"),
        ({"resources": {"licence": -1}}, "zero or more"),
        ({"resources": {"": 1}}, "must be text"),
        ({"resources": ["licence"]}, "must be a mapping"),
        ({"resources": {"licence": 1}, "num_custom_resource": 1}, "two ways"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises((ArgumentError, TypeError), match=reason):
        ray.remote(**options)(lambda: None)
