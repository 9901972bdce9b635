"""Tasks that take their worker with them, and values that can't travel: typed errors, never a hang."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ray
from ray import errors

TIMEOUT_MS = 30_000
BIG = 100_000_000

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(autouse=True)
def still_well() -> Iterator[None]:
    """After each of these the session works, with as many CPUs as before."""
    yield
    assert ray.get([ray.remote(os.getpid).remote() for _ in range(4)], timeout=TIMEOUT_MS)


class BadPickle:
    """Can't be pickled, and says why."""

    def __reduce__(self) -> Any:
        raise TypeError("made not to be pickled")


def explode() -> Any:
    raise RuntimeError("made not to be unpickled")


class BadUnpickle:
    """Pickles, but can't be read again."""

    def __reduce__(self) -> Any:
        return explode, ()


class HeldException(Exception):
    def __init__(self, text: str, thing: Any) -> None:
        super().__init__(text)
        self.thing = thing


def failure(object_id: Any) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the callers look at it
        ray.get(object_id, timeout=TIMEOUT_MS)
    assert not isinstance(caught.value, errors.GetTimeoutError), "a hang"
    return caught.value


@pytest.mark.statement("more-errors-06")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT])
def test_killed_by_a_signal(number: signal.Signals) -> None:
    @ray.remote(max_retries=0)
    def victim() -> None:
        signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
        os.kill(os.getpid(), number)
        time.sleep(20)

    error = failure(victim.remote())
    assert isinstance(error, errors.WorkerCrashedError)
    assert "victim" in error.function_name
    assert error.status == -number
    assert "victim" in str(error)


@pytest.mark.statement("more-errors-06")
def test_killed_from_outside(tmp_path: Path) -> None:
    place = tmp_path / "pid"

    @ray.remote(max_retries=0)
    def victim() -> None:
        place.with_suffix(".part").write_text(str(os.getpid()))
        place.with_suffix(".part").rename(place)
        time.sleep(20)

    object_id = victim.remote()
    deadline = time.monotonic() + 10
    while not place.exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(int(place.read_text()), signal.SIGKILL)
    assert isinstance(failure(object_id), errors.WorkerCrashedError)


@pytest.mark.statement("more-errors-07")
@pytest.mark.parametrize("status", [0, 1, 77])
def test_os_exit(status: int) -> None:
    @ray.remote(max_retries=0)
    def leaver() -> None:
        os._exit(status)

    error = failure(leaver.remote())
    assert isinstance(error, errors.WorkerCrashedError)
    assert "leaver" in error.function_name
    assert error.status == status


@pytest.mark.statement("more-errors-08")
@pytest.mark.parametrize("status", [None, 0, 3, "a message"])
def test_sys_exit(status: Any) -> None:
    @ray.remote(max_retries=0)
    def leaver() -> None:
        sys.exit(status)

    error = failure(leaver.remote())
    assert isinstance(error, errors.RayError)
    assert "leaver" in str(error)


@pytest.mark.statement("more-errors-09")
def test_a_stack_overflow_in_native_code() -> None:
    """C code calling back into Python without end runs out of stack before Python counts to its limit."""

    @ray.remote(max_retries=0)
    def deep() -> None:
        sys.setrecursionlimit(10**9)
        threading.stack_size(256 * 1024)
        prototype = ctypes.CFUNCTYPE(None)

        @prototype
        def down() -> None:
            down()

        thread = threading.Thread(target=down)
        thread.start()
        thread.join()

    error = failure(deep.remote())
    assert isinstance(error, errors.WorkerCrashedError)
    assert error.status == -signal.SIGSEGV
    assert "deep" in error.function_name


@pytest.mark.statement("more-errors-10")
@pytest.mark.parametrize(
    ("make", "name"),
    [(BadPickle, "BadPickle"), (threading.Lock, "lock"), (lambda: (n for n in "abc"), "generator")],
    ids=["BadPickle", "lock", "generator"],
)
def test_a_result_that_can_not_be_pickled(make: Callable[[], Any], name: str) -> None:
    @ray.remote
    def returns() -> Any:
        return {"deep": [make()]}

    error = failure(returns.remote())
    assert isinstance(error, errors.SerializationError)
    assert "returns" in str(error)
    assert error.type_name.rpartition(".")[2] == name


@pytest.mark.statement("more-errors-11")
def test_an_exception_that_can_not_be_pickled() -> None:
    @ray.remote
    def raises() -> None:
        raise HeldException("its text arrives", BadPickle())

    error = failure(raises.remote())
    assert isinstance(error, errors.RayTaskError)
    assert "its text arrives" in str(error)
    assert "HeldException" in error.exception_type
    assert "raises" in error.function_name


@pytest.mark.statement("more-errors-12")
def test_a_result_that_can_not_be_unpickled() -> None:
    """Neither by the driver nor by a task that has it as argument."""

    @ray.remote
    def returns() -> Any:
        return BadUnpickle()

    object_id = returns.remote()
    error = failure(object_id)
    assert isinstance(error, errors.SerializationError)
    assert "made not to be unpickled" in str(error)

    @ray.remote
    def takes(value: Any) -> Any:
        return value

    error = failure(takes.remote(object_id))
    assert isinstance(error, errors.RayError)
    assert "takes" in str(error)
    assert "made not to be unpickled" in str(error)


@pytest.mark.statement("more-errors-12")
def test_an_exception_that_can_not_be_unpickled() -> None:
    @ray.remote
    def raises() -> None:
        raise HeldException("its text arrives", BadUnpickle())

    error = failure(raises.remote())
    assert isinstance(error, errors.RayTaskError)
    assert "its text arrives" in str(error)


@pytest.mark.statement("more-errors-12")
def test_an_argument_that_can_not_be_unpickled() -> None:
    @ray.remote
    def takes(value: Any) -> Any:
        return value

    error = failure(takes.remote(BadUnpickle()))
    assert isinstance(error, errors.RayError)
    assert "takes" in str(error)


@pytest.mark.statement("more-errors-13")
def test_an_exception_of_100_megabytes() -> None:
    @ray.remote
    def raises() -> None:
        raise ValueError("the beginning " + "x" * BIG)

    error = failure(raises.remote())
    assert isinstance(error, errors.RayTaskError)
    assert "the beginning" in str(error)
    assert len(str(error)) < 1_000_000


@pytest.mark.statement("more-errors-15")
@pytest.mark.parametrize(("options", "runs"), [({}, 4), ({"max_retries": 1}, 2), ({"max_retries": 0}, 1)])
def test_retries(options: dict[str, Any], runs: int, tmp_path: Path) -> None:
    """How often a task is begun that always takes its worker with it."""

    @ray.remote(**{"num_cpus": 1, **options})
    def victim() -> None:
        (tmp_path / str(time.monotonic_ns())).touch()
        os._exit(1)

    error = failure(victim.remote())
    assert isinstance(error, errors.WorkerCrashedError)
    assert error.attempts == runs
    assert len(list(tmp_path.iterdir())) == runs


@pytest.mark.statement("more-errors-15")
def test_a_task_that_dies_once_has_its_result(tmp_path: Path) -> None:
    """Its arguments are still there for the second run, and so are the ids it was promised under."""

    @ray.remote(num_return_vals=2)
    def sometimes(value: bytes) -> tuple[int, int]:
        mark = tmp_path / "been here"
        if not mark.exists():
            mark.touch()
            os._exit(1)
        return len(value), os.getpid()

    length, pid = sometimes.remote(bytes(10**6))
    assert ray.get(length, timeout=TIMEOUT_MS) == 10**6
    assert ray.get(pid, timeout=TIMEOUT_MS) != os.getpid()


@pytest.mark.statement("more-errors-15")
def test_a_task_that_raises_is_not_run_again(tmp_path: Path) -> None:
    @ray.remote
    def raises() -> None:
        (tmp_path / str(time.monotonic_ns())).touch()
        raise ValueError("once")

    assert isinstance(failure(raises.remote()), ValueError)
    assert len(list(tmp_path.iterdir())) == 1
