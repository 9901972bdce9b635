"""Actors: order, handles, constructors, death, and the end of the last handle."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import ray
from ray import errors
from tests.api.meeting import wait_open
from tests.api.programs import wait_for

TIMEOUT_MS = 30_000
Init = Callable[..., dict[str, Any]]
pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
class Counter:
    def __init__(self, start: int = 0) -> None:
        self.value = start
        self.seen: list[Any] = []

    def add(self, by: int = 1) -> int:
        self.value += by
        return self.value

    def see(self, thing: Any) -> list[Any]:
        self.seen.append(thing)
        return self.seen

    def fail(self) -> None:
        self.value += 100
        raise ValueError("a method failed")

    def pid(self) -> int:
        return os.getpid()

    def die(self) -> None:
        os._exit(5)

    @ray.method(num_return_vals=2)
    def both(self) -> tuple[int, str]:
        return self.value, "two"


@pytest.mark.statement("decorator-02")
def test_an_actor_has_state_of_its_own() -> None:
    """In a process of its own, for as long as there is a handle."""
    first, second = Counter.remote(), Counter.remote(start=10)
    assert ray.get([first.add.remote(), second.add.remote(5), first.add.remote(by=2)]) == [1, 15, 3]
    pids = ray.get([first.pid.remote(), second.pid.remote(), first.pid.remote()])
    assert pids[0] == pids[2] != pids[1]
    assert os.getpid() not in pids


@pytest.mark.statement("more-actors-01")
def test_the_calls_of_one_caller_run_in_order() -> None:
    """A thousand of them, an unready argument in the middle included."""
    actor = Counter.remote()

    @ray.remote
    def late() -> int:
        time.sleep(0.1)
        return 500

    slow = late.remote()
    ids = [actor.see.remote(slow if number == 500 else number) for number in range(1000)]
    assert ray.get(ids[-1], timeout=TIMEOUT_MS) == list(range(1000))


@pytest.mark.statement("more-actors-01")
def test_each_thread_is_a_caller_of_its_own() -> None:
    """What waits for its argument holds back its own thread's calls only."""
    actor = Counter.remote()
    gate = ray.remote(lambda: time.sleep(0.5)).remote()
    held = actor.see.remote(gate)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(ray.get(actor.add.remote(7))))
    thread.start()
    thread.join(0.4)
    assert results == [7]
    assert ray.get(held) == [None]


@pytest.mark.statement("more-actors-09", "more-remote-08")
def test_arguments_of_methods() -> None:
    actor = Counter.remote(ray.put(40))
    inner = ray.put("inner")
    assert ray.get(actor.add.remote(ray.remote(lambda: 2).remote())) == 42
    (seen,) = ray.get(actor.see.remote([inner]))
    assert ray.get(seen[0]) == "inner"
    with pytest.raises(TypeError, match="add"):
        actor.add.remote(1, 2)
    with pytest.raises(TypeError, match="unexpected keyword"):
        Counter.remote(begin=1)
    with pytest.raises(AttributeError, match="subtract"):
        actor.subtract.remote(1)


@pytest.mark.statement("more-remote-02")
def test_several_returns_of_a_method() -> None:
    number, word = Counter.remote(3).both.remote()
    assert ray.get([number, word]) == [3, "two"]


@pytest.mark.statement("more-actors-02")
def test_handles_travel() -> None:
    """In an argument, nested in one, in a result, into another actor, and through a put."""

    @ray.remote
    def adds(handle: Any, by: int) -> int:
        return int(ray.get(handle.add.remote(by)))

    @ray.remote
    def adds_nested(box: dict[str, Any]) -> int:
        return int(ray.get(box["handles"][0].add.remote(10)))

    @ray.remote
    def makes() -> Any:
        made = Counter.remote(1000)
        made.add.remote()
        return made

    @ray.remote
    class Holder:
        def __init__(self, handle: Any) -> None:
            self.handle = handle

        def add(self) -> int:
            return int(ray.get(self.handle.add.remote(100)))

        def give(self) -> Any:
            return self.handle

    actor = Counter.remote()
    assert ray.get(adds.remote(actor, 1)) == 1
    assert ray.get(adds_nested.remote({"handles": (actor,)})) == 11
    assert ray.get(Holder.remote(actor).add.remote()) == 111
    assert ray.get(ray.get(Holder.remote(actor).give.remote()).add.remote()) == 112
    assert ray.get(ray.get(ray.put(actor)).add.remote()) == 113
    assert ray.get(ray.get(makes.remote()).add.remote()) == 1002


@pytest.mark.statement("more-actors-03")
def test_a_constructors_error_reaches_every_call() -> None:
    @ray.remote
    class Wrong:
        def __init__(self) -> None:
            raise KeyError("never constructed")

        def method(self) -> int:
            return 1

    actor = Wrong.remote()
    ids = [actor.method.remote() for _ in range(3)]
    for object_id in [*ids, actor.method.remote()]:
        with pytest.raises(KeyError, match="never constructed"):
            ray.get(object_id, timeout=TIMEOUT_MS)


@pytest.mark.statement("more-actors-03")
def test_a_constructors_failed_argument_reaches_every_call() -> None:
    def fails() -> None:
        raise ZeroDivisionError

    actor = Counter.remote(ray.remote(fails).remote())
    with pytest.raises(ZeroDivisionError):
        ray.get(actor.add.remote(), timeout=TIMEOUT_MS)


@pytest.mark.statement("more-actors-10")
def test_a_method_that_raises_leaves_the_actor_alive() -> None:
    actor = Counter.remote()
    with pytest.raises(ValueError, match="a method failed") as caught:
        ray.get(actor.fail.remote())
    assert isinstance(caught.value, errors.RayTaskError)
    assert "Counter.fail" in caught.value.function_name
    assert ray.get(actor.add.remote()) == 101


@pytest.mark.statement("more-actors-04")
@pytest.mark.parametrize("how", ["exit", "kill"])
def test_the_death_of_the_process(how: str) -> None:
    """The running call, those queued behind it, and later ones."""
    actor = Counter.remote()
    pid = ray.get(actor.pid.remote())
    if how == "exit":
        ids = [actor.die.remote(), actor.add.remote(), actor.add.remote()]
    else:
        ids = [actor.see.remote(ray.remote(lambda: time.sleep(0.3)).remote()), actor.add.remote()]
        os.kill(pid, signal.SIGKILL)
    for object_id in ids:
        with pytest.raises(errors.ActorDiedError) as caught:
            ray.get(object_id, timeout=TIMEOUT_MS)
        assert caught.value.status == (5 if how == "exit" else -signal.SIGKILL)
    with pytest.raises(errors.ActorDiedError):
        ray.get(actor.add.remote(), timeout=TIMEOUT_MS)


@pytest.mark.statement("more-actors-07")
def test_kill(tmp_path: Path) -> None:
    @ray.remote
    class Busy:
        def pid(self) -> int:
            return os.getpid()

        def wait(self) -> bool:
            return wait_open(str(tmp_path / "never"))

    actor = Busy.remote()
    pid = ray.get(actor.pid.remote())
    ids = [actor.wait.remote() for _ in range(3)]
    ray.kill(actor)
    for object_id in [*ids, actor.pid.remote()]:
        with pytest.raises(errors.ActorKilledError):
            ray.get(object_id, timeout=TIMEOUT_MS)
    assert wait_for(lambda: not psutil.pid_exists(pid) or None, 5)
    with pytest.raises(errors.ArgumentTypeError, match=r"ray\.kill"):
        ray.kill(pid)


@pytest.mark.statement("more-actors-08")
def test_the_last_handle_is_gone(tmp_path: Path) -> None:
    """The calls made by then are still done; then the process ends."""

    @ray.remote
    class Writer:
        def pid(self) -> int:
            return os.getpid()

        def write(self, name: str) -> None:
            time.sleep(0.01)
            (tmp_path / name).touch()

    actor = Writer.remote()
    pid = ray.get(actor.pid.remote())
    other = ray.get(ray.put(actor))
    del actor
    assert ray.get(other.pid.remote()) == pid
    for number in range(10):
        other.write.remote(str(number))
    del other
    assert wait_for(lambda: len(list(tmp_path.iterdir())) == 10 or None, 10)
    assert wait_for(lambda: not psutil.pid_exists(pid) or None, 10)


@pytest.mark.statement("more-actors-08")
def test_a_call_on_a_passing_handle(tmp_path: Path) -> None:
    assert ray.get(Counter.remote(5).add.remote(), timeout=TIMEOUT_MS) == 6


@pytest.mark.statement("more-actors-02")
def test_actors_call_each_other() -> None:
    """Ten in a row, each held by the one before it."""

    @ray.remote
    class Link:
        def __init__(self, behind: Any) -> None:
            self.behind = behind

        def depth(self) -> int:
            return 1 + (int(ray.get(self.behind.depth.remote())) if self.behind else 0)

    link = None
    for _ in range(10):
        link = Link.remote(link)
    assert link is not None
    assert ray.get(link.depth.remote(), timeout=TIMEOUT_MS) == 10


@pytest.mark.statement("more-actors-01")
def test_calls_of_several_callers_all_arrive() -> None:
    actor = Counter.remote()

    @ray.remote
    def caller(handle: Any, times: int) -> list[int]:
        return list(ray.get([handle.add.remote() for _ in range(times)]))

    found = ray.get([caller.remote(actor, 50) for _ in range(4)], timeout=TIMEOUT_MS)
    assert sorted(itertools.chain(*found)) == list(range(1, 201))
    assert all(values == sorted(values) for values in found)


@pytest.mark.statement("decorator-02", "more-remote-01")
def test_inheritance_and_options() -> None:
    class Plain:
        def hello(self) -> str:
            return f"hello, {self.name()}"

        def name(self) -> str:
            return "plain"

    @ray.remote
    class Derived(Plain):
        def name(self) -> str:
            return "derived"

    assert ray.get(Derived.remote().hello.remote()) == "hello, derived"
    with pytest.raises(errors.ArgumentTypeError):
        ray.remote(num_return_vals=2)(Plain)
    with pytest.raises(errors.ArgumentTypeError, match="max_calls"):
        ray.remote(max_calls=2)(Plain)
