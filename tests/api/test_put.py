"""ray.put, and when it is called under the hood: counted in the store itself."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ray
from ray import errors
from ray._kernel import current
from tests.api.meeting import wait_open
from tests.api.programs import wait_for

ARRAY_BYTES = 8 * 10**6

pytestmark = pytest.mark.usefixtures("cluster")


def stats() -> dict[str, int]:
    arena = current()
    assert arena is not None
    return arena.stats()


@ray.remote
def ignored(x: Any, *more: Any) -> None:
    pass


@pytest.fixture
def all_busy(tmp_path: Path) -> Iterator[None]:
    """Every CPU has a task that waits, so that tasks submitted meanwhile stay queued, arguments and all."""
    gate = tmp_path / "gate"
    waiting = [ray.remote(wait_open).remote(str(gate)) for _ in range(2)]
    assert wait_for(lambda: stats()["running_tasks"] == 2 or None, 10)
    yield
    gate.touch()
    assert ray.get(waiting) == [True, True]


@pytest.mark.statement("put-01", "put-02", "put-12", "put-call-02", "put-call-03", "put-call-04")
def test_put_returns_an_id(cluster: Any) -> None:
    first, second = ray.put([1]), ray.put([1])
    assert isinstance(first, ray.ObjectID)
    assert first != second
    assert ray.get([first, second]) == [[1], [1]]


@pytest.mark.statement("put-call-01", "more-wait-06")
def test_worker_argument() -> None:
    assert ray.get(ray.put(1, worker=ray.worker.global_worker)) == 1
    assert ray.get(ray.put(2, ray.worker.global_worker)) == 2


@pytest.mark.statement("put-01", "put-11", "put-10")
def test_a_result_is_an_object_in_the_store() -> None:
    """A task that returns 8 MB takes as much of the store, until its id is dropped."""
    before = stats()["heap_used_bytes"]
    made = ray.remote(lambda: np.ones(10**6)).remote()
    ray.wait([made])
    assert ARRAY_BYTES <= stats()["heap_used_bytes"] - before < 2 * ARRAY_BYTES
    del made
    assert wait_for(lambda: stats()["heap_used_bytes"] < before + ARRAY_BYTES or None, 5)


@pytest.mark.statement("put-04", "put-05", "put-06", "put-07", "put-08", "put-12")
@pytest.mark.usefixtures("all_busy")
def test_ten_calls_with_one_array_store_ten_copies() -> None:
    x = np.zeros(10**6)
    before = stats()["heap_used_bytes"]
    ids = [ignored.remote(x) for _ in range(10)]
    assert len(ids) == 10
    assert 10 * ARRAY_BYTES <= stats()["heap_used_bytes"] - before < 11 * ARRAY_BYTES


@pytest.mark.statement("put-04", "put-05", "put-09")
@pytest.mark.usefixtures("all_busy")
def test_ten_calls_with_its_id_store_one() -> None:
    before = stats()["heap_used_bytes"]
    x_id = ray.put(np.zeros(10**6))
    ids = [ignored.remote(x_id) for _ in range(10)]
    assert len(ids) == 10
    assert ARRAY_BYTES <= stats()["heap_used_bytes"] - before < 2 * ARRAY_BYTES


@pytest.mark.statement("put-12")
@pytest.mark.usefixtures("all_busy")
@pytest.mark.parametrize(
    ("argument", "puts"),
    [
        ("0", 0),
        ("2.5", 0),
        ("None", 0),
        ("'short'", 0),
        ("[1, 2, 3]", 0),
        ("(1, 'two')", 0),
        ("{'a': 1, 'b': [2]}", 0),
        ("'long' * 1000", 1),
        ("[0] * 500", 1),
        ("{1, 2}", 1),
        ("range(3)", 1),
        ("np.zeros(3)", 1),
        ("[np.zeros(3)]", 1),
    ],
)
def test_which_arguments_are_put(argument: str, puts: int) -> None:
    """Objects in the store: the task's result, and its argument if that was put."""
    value = eval(argument, {"np": np})
    ray.get(ray.put(0))
    warm = ignored.remote(0)  # the function itself is an object, once
    before = stats()["objects"]
    made = ignored.remote(value)
    assert stats()["objects"] - before - 1 == puts
    del warm, made


@pytest.mark.statement("put-03", "put-call-03")
def test_put_takes_a_copy() -> None:
    words = ["before"]
    object_id = ray.put(words)
    words.append("after")
    assert ray.get(object_id) == ["before"]


@pytest.mark.statement("put-call-03")
def test_a_value_that_can_not_be_pickled() -> None:
    with pytest.raises(errors.SerializationError) as refused:
        ray.put({"deep": [threading.Lock()]})
    assert "lock" in str(refused.value)
    assert "deep" in refused.value.path
