"""Everything that can go wrong in a task is a typed error that names the task; never a hang."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import ray
from ray.errors import (
    ObjectStoreFullError,
    RayTaskError,
    SerializationError,
    WorkerCrashedError,
    WrongReturnCountError,
)

pytestmark = pytest.mark.usefixtures("session")

PATIENCE_MS = 20_000


def failure(function: Callable[[], Any], **options: Any) -> BaseException:
    """What ray.get raises for a task of this function."""
    task = ray.remote(function).options(**options)
    with pytest.raises(ray.errors.RayError) as caught:
        ray.get(task.remote(), timeout=PATIENCE_MS)
    assert function.__name__ in str(caught.value)
    return caught.value


def exits() -> None:
    os._exit(3)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def overflows() -> None:
    ctypes.string_at(0)


@pytest.mark.parametrize(
    ("function", "status"), [(exits, 3), (killed, -signal.SIGKILL), (overflows, -signal.SIGSEGV)]
)
def test_the_death_of_the_process(function: Callable[[], None], status: int) -> None:
    error = failure(function, max_retries=1)
    assert isinstance(error, WorkerCrashedError)
    assert error.status == status
    assert error.function_name == function.__name__
    assert error.attempts == 2


def test_a_task_whose_process_died_is_run_again(tmp_path: Any) -> None:
    marker = tmp_path / "died"

    @ray.remote
    def dies_once() -> str:
        if not marker.exists():
            marker.touch()
            os._exit(1)
        return "second"

    assert ray.get(dies_once.remote(), timeout=PATIENCE_MS) == "second"


def test_leaving_the_interpreter_is_an_error_and_no_exit() -> None:
    def leaves() -> None:
        sys.exit(4)

    error = failure(leaves)
    assert isinstance(error, RayTaskError)
    assert not isinstance(error, SystemExit)
    assert isinstance(error.cause, SystemExit)


def test_an_interrupt_hits_the_users_code_only() -> None:
    def interrupts_itself() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)

    @ray.remote
    def pid() -> int:
        return os.getpid()

    error = failure(interrupts_itself)
    assert isinstance(error, RayTaskError)
    assert isinstance(error.cause, KeyboardInterrupt)
    idle = ray.get(pid.remote())
    os.kill(idle, signal.SIGINT)
    assert ray.get([pid.remote() for _ in range(10)], timeout=PATIENCE_MS)
    os.kill(idle, 0)  # it still lives


def test_what_can_not_be_pickled() -> None:
    def returns_a_lock() -> Any:
        return {"deep": [threading.Lock()]}

    error = failure(returns_a_lock)
    assert isinstance(error, SerializationError)
    assert isinstance(error, RayTaskError)
    assert "lock" in str(error)


class Refusing(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("not me")


def test_an_exception_that_can_not_be_pickled() -> None:
    def raises_odd() -> None:
        raise Refusing("anyway")

    error = failure(raises_odd)
    assert isinstance(error, RayTaskError)
    assert "anyway" in str(error)


def test_a_huge_exception() -> None:
    def raises_huge() -> None:
        raise ValueError("x" * 100_000_000)

    error = failure(raises_huge)
    assert isinstance(error, ValueError)
    assert len(str(error)) < 200_000


def test_recursion_without_end() -> None:
    def deeper() -> None:
        deeper()

    def recurses() -> None:
        deeper()

    assert isinstance(failure(recurses), RecursionError)


@pytest.mark.parametrize(
    "returned",
    [None, 5, (1,), (1, 2, 3), "ab", {1: 1, 2: 2}, {1, 2}, iter((1, 2))],
    ids=lambda value: type(value).__name__,
)
def test_a_wrong_number_of_results(returned: Any) -> None:
    @ray.remote(num_return_vals=2)
    def returns_wrong(kind: str) -> Any:
        return {
            "iterator": iter((1, 2)),
        }.get(kind, eval(kind) if kind != "iterator" else None)

    kind = repr(returned) if not hasattr(returned, "__next__") else "iterator"
    for oid in returns_wrong.remote(kind):
        with pytest.raises(WrongReturnCountError, match="returns_wrong"):
            ray.get(oid, timeout=PATIENCE_MS)


def test_right_numbers_of_results() -> None:
    import numpy as np

    for returned in ((1, 2), [1, 2], np.array([1, 2]), range(1, 3)):
        task = ray.remote(lambda value=returned: value)
        assert ray.get(task.options(num_return_vals=2).remote()) == [1, 2]


class Unloadable:
    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    if threading.current_thread() is threading.main_thread():
        raise ImportError("no module of that name here")


def test_an_argument_that_can_not_be_unpickled() -> None:
    @ray.remote
    def takes(value: Any) -> None: ...

    with pytest.raises(SerializationError, match="takes") as caught:
        ray.get(takes.remote(Unloadable()), timeout=PATIENCE_MS)
    assert isinstance(caught.value, RayTaskError)


def test_a_function_that_can_not_be_unpickled() -> None:
    captured = Unloadable()

    @ray.remote
    def uses_captured() -> Any:
        return captured

    with pytest.raises(SerializationError, match="uses_captured"):
        ray.get(uses_captured.remote(), timeout=PATIENCE_MS)


def test_a_failure_travels_through_a_chain_and_is_reported_once() -> None:
    @ray.remote
    def origin() -> None:
        raise ZeroDivisionError("only once")

    @ray.remote
    def link(value: Any, *, again: Any = None) -> Any:
        return value

    oid: Any = origin.remote()
    for _ in range(5):
        oid = link.remote(1, again=oid)
    with pytest.raises(ZeroDivisionError, match="only once") as caught:
        ray.get(oid)
    assert isinstance(caught.value, RayTaskError)
    assert caught.value.function_name == "origin"
    assert len(caught.value.chain) == 5
    assert "again" in caught.value.chain[0]
    reports = [error for error in ray.error_info() if "only once" in error["message"]]
    assert len(reports) == 1


def test_the_kernels_own_failure_travels_with_the_name_of_its_task() -> None:
    @ray.remote
    def link(value: Any) -> Any:
        return value

    oid = link.remote(ray.remote(exits).options(max_retries=0).remote())
    with pytest.raises(WorkerCrashedError, match="exits") as caught:
        ray.get(oid, timeout=PATIENCE_MS)
    assert isinstance(caught.value, RayTaskError)


def test_an_error_of_a_nested_get_is_handed_on() -> None:
    @ray.remote
    def inner() -> None:
        raise LookupError("inside")

    def outer() -> None:
        ray.get(inner.remote())

    error = failure(outer)
    assert isinstance(error, LookupError)


def test_a_result_larger_than_the_store() -> None:
    capacity = ray._kernel.current().stats()["heap_capacity_bytes"]  # type: ignore[union-attr]

    def returns_too_much() -> bytes:
        return bytes(capacity + 1)

    assert isinstance(failure(returns_too_much), ObjectStoreFullError)


def test_init_inside_a_task_is_refused() -> None:
    def starts_again() -> None:
        ray.init()

    assert isinstance(failure(starts_again), ray.errors.InitError)


def test_shutdown_inside_a_task_does_nothing() -> None:
    @ray.remote
    def shuts_down() -> int:
        ray.shutdown()
        return int(ray.get(ray.put(5)))

    assert ray.get(shuts_down.remote()) == 5


def test_the_traceback_shows_the_users_code_only() -> None:
    def raises() -> None:
        raise ValueError("mine")

    text = str(failure(raises))
    assert "test_failures.py" in text
    assert "execution.py" not in text
    assert ray.__path__[0] not in text
