"""Actors: calls, handles, options and their life."""

import gc
import os
import pickle
import time
from pathlib import Path
from typing import Any

import pytest

import ray
from ray.core import session_state
from ray.errors import ActorDiedError, ActorKilledError, RayTaskError

pytestmark = pytest.mark.usefixtures("session")

PATIENCE_S = 10.0


@ray.remote
class Counter:
    """Counts up."""

    step = 1

    def __init__(self, start: int = 0, *, name: str = "") -> None:
        self.value = start
        self.name = name

    def add(self, amount: int = 1) -> int:
        self.value += amount
        return self.value

    def get(self) -> int:
        return self.value

    @ray.method(num_return_vals=2)
    def both(self) -> tuple[int, str]:
        return self.value, self.name

    @ray.method(num_returns=0)
    def nothing(self) -> None:
        self.value += 100

    @staticmethod
    def double(x: int) -> int:
        return 2 * x

    @classmethod
    def size(cls) -> int:
        return cls.step

    def fail(self) -> None:
        raise LookupError("as asked")

    def die(self) -> None:
        os._exit(7)

    def pid(self) -> int:
        return os.getpid()

    def _private(self) -> str:
        return "private"


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.005)


def test_calls_run_in_order_on_one_instance() -> None:
    counter = Counter.remote(5)
    assert ray.get([counter.add.remote() for _ in range(200)]) == list(range(6, 206))
    assert ray.get(counter.add.remote(amount=ray.put(4))) == 209


def test_methods_of_all_kinds() -> None:
    counter = Counter.remote(3, name="three")
    assert ray.get(counter.both.remote()) == [3, "three"]
    assert counter.nothing.remote() is None
    assert ray.get([counter.get.remote(), counter.double.remote(4), counter.size.remote()]) == [103, 8, 1]
    assert ray.get(counter._private.remote()) == "private"


def test_a_class_without_a_constructor_and_one_that_inherits() -> None:
    class Base:
        def who(self) -> str:
            return type(self).__name__

    @ray.remote
    class Derived(Base):
        pass

    assert ray.get(Derived.remote().who.remote()) == "Derived"
    with pytest.raises(TypeError, match="Derived"):
        Derived.remote(1)


def test_what_does_not_fit_is_refused_by_the_caller() -> None:
    with pytest.raises(TypeError, match="nonsense"):
        Counter.remote(nonsense=1)
    counter = Counter.remote()
    with pytest.raises(TypeError, match=r"Counter\.add\(\) takes"):
        counter.add.remote(1, 2)
    with pytest.raises(TypeError, match=r"Counter\.add\.remote"):
        counter.add()
    with pytest.raises(AttributeError, match="add, both, die"):
        counter.value  # noqa: B018
    assert "add" in dir(counter)
    assert repr(counter).startswith("Actor(Counter, ")


def test_handles_travel_in_arguments_results_closures_and_other_actors() -> None:
    @ray.remote
    def use(handle: Any, times: int) -> int:
        return max(ray.get([handle.add.remote() for _ in range(times)]))

    @ray.remote
    def use_nested(handles: list[Any]) -> int:
        return int(ray.get(handles[0].add.remote()))

    @ray.remote
    def make() -> Any:
        return Counter.remote(1000)

    @ray.remote
    class Holder:
        def __init__(self, handle: Any) -> None:
            self.handle = handle

        def add(self) -> int:
            return int(ray.get(self.handle.add.remote()))

        def give(self) -> Any:
            return self.handle

    counter = Counter.remote()

    @ray.remote
    def closure() -> int:
        return int(ray.get(counter.add.remote()))

    assert ray.get(use.remote(counter, 3)) == 3
    assert ray.get(use_nested.remote([counter])) == 4
    assert ray.get(closure.remote()) == 5
    holder = Holder.remote(counter)
    assert ray.get(holder.add.remote()) == 6
    assert ray.get(holder.give.remote()) == counter
    made = ray.get(make.remote())
    assert ray.get(made.add.remote()) == 1001
    copied = pickle.loads(pickle.dumps(counter))
    assert copied == counter
    assert hash(copied) == hash(counter)
    assert ray.get(copied.add.remote()) == 7


def test_a_method_that_raises_leaves_the_actor_alive() -> None:
    counter = Counter.remote(1)
    failed = counter.fail.remote()
    assert ray.get(counter.add.remote()) == 2
    with pytest.raises(LookupError, match="as asked") as caught:
        ray.get(failed)
    assert isinstance(caught.value, RayTaskError)
    assert caught.value.function_name == "Counter.fail"


def test_an_error_of_the_constructor_reaches_every_call() -> None:
    @ray.remote
    class Broken:
        def __init__(self) -> None:
            raise OSError("no such device")

        def method(self) -> None: ...

    broken = Broken.remote()
    ids = [broken.method.remote() for _ in range(3)]
    for oid in [*ids, broken.method.remote()]:
        with pytest.raises(OSError, match="no such device"):
            ray.get(oid)


def test_a_failed_argument_of_the_constructor_reaches_every_call() -> None:
    @ray.remote
    def fails() -> None:
        raise ZeroDivisionError("first")

    counter = Counter.remote(fails.remote())
    with pytest.raises(ZeroDivisionError, match="first"):
        ray.get(counter.get.remote())


def test_death_of_the_process() -> None:
    counter = Counter.remote()
    queued = [counter.die.remote(), counter.get.remote()]
    for oid in queued:
        with pytest.raises(ActorDiedError) as caught:
            ray.get(oid)
        assert caught.value.status == 7
        assert "Counter" in str(caught.value)
    with pytest.raises(ActorDiedError):
        ray.get(counter.get.remote())


def test_kill_ends_the_actor_at_once() -> None:
    @ray.remote
    class Sleeper:
        def sleep(self) -> None:
            time.sleep(600)

        def pid(self) -> int:
            return os.getpid()

    sleeper = Sleeper.remote()
    pid = ray.get(sleeper.pid.remote())
    running, queued = sleeper.sleep.remote(), sleeper.pid.remote()
    ray.kill(sleeper)
    for oid in (running, queued, sleeper.pid.remote()):
        with pytest.raises(ActorKilledError):
            ray.get(oid, timeout=10_000)
    wait_until_gone(pid)
    with pytest.raises(TypeError, match="handle"):
        ray.kill(running)


def test_an_actor_ends_after_its_calls_when_its_last_handle_is_gone() -> None:
    counter = Counter.remote()
    pid = ray.get(counter.pid.remote())
    last = [counter.add.remote() for _ in range(50)]
    del counter
    gc.collect()
    assert ray.get(last) == list(range(1, 51))
    arena = session_state.require("test").arena
    deadline = time.monotonic() + PATIENCE_S
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline
        arena.wait([last[0]], 1, 0)
        ray.put(0)
        time.sleep(0.005)


def test_a_call_keeps_the_actor() -> None:
    result = Counter.remote(41).add.remote()
    assert ray.get(result) == 42


def test_options_of_one_creation() -> None:
    small = Counter.options(num_cpus=0.5).remote(2)
    assert ray.get(small.get.remote()) == 2
    with pytest.raises(ray.errors.InfeasibleResourcesError, match="Counter"):
        Counter.options(num_gpus=1).remote()


def test_an_actor_waits_for_its_arguments_without_holding_others_back(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    @ray.remote(num_cpus=0)
    def late() -> int:
        deadline = time.monotonic() + PATIENCE_S
        while not gate.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        return 5

    @ray.remote
    def call(handle: Any) -> int:
        return int(ray.get(handle.add.remote(1)))

    counter = Counter.remote()
    waiting = counter.add.remote(late.remote())
    assert ray.get(call.remote(counter)) == 1
    assert ray.wait([waiting], timeout=0) == ([], [waiting])
    gate.touch()
    assert ray.get(waiting) == 6
