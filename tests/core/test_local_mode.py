"""PYTHON_MODE: the same program, in the caller's process."""

import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import ray
from ray.errors import ActorKilledError, InfeasibleResourcesError, RayTaskError


@pytest.fixture(autouse=True)
def local() -> Iterator[None]:
    ray.init(num_cpus=2, num_gpus=2, driver_mode=ray.PYTHON_MODE, object_store_memory=64 << 20)
    yield
    ray.shutdown()


def test_tasks_run_at_once_here_on_copies() -> None:
    ran: list[int] = []

    @ray.remote
    def f(values: list[int]) -> Any:
        values.append(4)
        return os.getpid(), threading.get_ident(), values

    mine = [1, 2, 3]
    pid, thread, values = ray.get(f.remote(mine))
    assert (pid, thread) == (os.getpid(), threading.get_ident())
    assert (mine, values) == ([1, 2, 3], [1, 2, 3, 4])
    assert ran == []


def test_ids_get_put_wait() -> None:
    @ray.remote
    def add(a: int, b: int = 1) -> int:
        return a + b

    one = ray.put(1)
    two = add.remote(one)
    assert isinstance(two, ray.ObjectID)
    assert ray.get([one, two, add.remote(two, b=two)]) == [1, 2, 4]
    assert ray.wait([one, two], num_returns=1) == ([one], [two])
    assert ray.wait([one, two], num_returns=5, timeout=0) == ([one, two], [])
    array = ray.get(ray.put(np.zeros(100_000)))
    assert not array.flags.writeable


def test_numbers_of_results() -> None:
    @ray.remote(num_return_vals=3)
    def three() -> tuple[int, int, int]:
        return 1, 2, 3

    assert ray.get(three.remote()) == [1, 2, 3]
    assert three.options(num_return_vals=0).remote() is None


def test_errors_are_raised_by_get_and_listed() -> None:
    @ray.remote
    def fails() -> None:
        raise KeyError("lost")

    @ray.remote
    def link(value: Any) -> Any:
        return value

    failed = link.remote(fails.remote())
    with pytest.raises(KeyError) as caught:
        ray.get(failed)
    assert isinstance(caught.value, RayTaskError)
    assert caught.value.function_name == "fails"
    assert [error["data"]["function_name"] for error in ray.error_info()] == ["fails"]


def test_recursion_and_nested_definitions() -> None:
    @ray.remote
    def fibonacci(n: int) -> int:
        return n if n < 2 else sum(ray.get([fibonacci.remote(n - 1), fibonacci.remote(n - 2)]))

    @ray.remote
    def outer() -> Any:
        @ray.remote
        def inner() -> str:
            return "inner"

        return inner.remote()

    assert ray.get(fibonacci.remote(10)) == 55
    assert ray.get(ray.get(outer.remote())) == "inner"


def test_actors() -> None:
    @ray.remote(num_gpus=1)
    class Counter:
        def __init__(self, start: int) -> None:
            self.value = start

        def add(self) -> int:
            self.value += 1
            return self.value

        def gpus(self) -> list[Any]:
            return ray.get_gpu_ids()

        def fail(self) -> None:
            raise OSError("as asked")

    counter = Counter.remote(ray.put(1))
    assert ray.get([counter.add.remote() for _ in range(3)]) == [2, 3, 4]
    assert ray.get(counter.gpus.remote()) == [0]
    assert ray.get_gpu_ids() == []
    with pytest.raises(OSError, match="as asked"):
        ray.get(counter.fail.remote())

    @ray.remote
    def use(handle: Any) -> int:
        return int(ray.get(handle.add.remote()))

    assert ray.get(use.remote(counter)) == 5
    ray.kill(counter)
    with pytest.raises(ActorKilledError):
        ray.get(counter.add.remote())


def test_a_constructors_error_reaches_every_call() -> None:
    @ray.remote
    class Broken:
        def __init__(self) -> None:
            raise ZeroDivisionError("made of nothing")

        def call(self) -> None: ...

    broken = Broken.remote()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="made of nothing"):
            ray.get(broken.call.remote())


def test_instances_without_handles_are_let_go() -> None:
    @ray.remote
    class Large:
        def __init__(self) -> None:
            self.id = ray.put(bytes(1 << 20))

        def call(self) -> int:
            return 1

    # 200 times one MiB does not fit into the store.
    for _ in range(200):
        assert ray.get(Large.remote().call.remote()) == 1


def test_demands_beyond_the_node_are_refused() -> None:
    @ray.remote
    def f() -> list[Any]:
        return ray.get_gpu_ids()

    assert ray.get(f.options(num_gpus=2).remote()) == [0, 1]
    with pytest.raises(InfeasibleResourcesError):
        f.options(num_cpus=3).remote()


def test_an_interrupt_is_the_users() -> None:
    @ray.remote
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted.remote()


def test_what_init_returns() -> None:
    assert ray.nodes()[0]["alive"]
    assert ray.cluster_resources() == {"CPU": 2.0, "GPU": 2.0}
    ray.shutdown()
    info = ray.init(driver_mode=ray.PYTHON_MODE)
    assert info["redis_address"] is None
    assert ray.worker.global_worker.mode == ray.PYTHON_MODE
