"""Defining and calling remote functions: signatures, closures, modules, recursion, arguments."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

import ray
from ray import errors
from tests.api.meeting import wait_open
from tests.api.programs import Programs, wait_for

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
def shown(first: Any, second: Any = "two", *rest: Any, key: Any = "key", **named: Any) -> tuple[Any, ...]:
    return first, second, rest, key, named


@ray.remote
def doubled(number: int) -> int:
    return 2 * number


@ray.remote
def factorial(number: int) -> int:
    return number * int(ray.get(factorial.remote(number - 1))) if number > 1 else 1


@ray.remote
def kind_and_value(box: dict[str, Any]) -> tuple[str, Any]:
    return type(box["id"]).__name__, ray.get(box["id"])


@pytest.mark.statement("remote-01", "remote-02", "remote-03", "remote-05", "decorator-01", "decorator-02")
def test_a_call_returns_an_id_at_once(tmp_path: Path) -> None:
    """An essentially-future: the call is back before the task may end."""
    gate = tmp_path / "gate"
    waiting = ray.remote(wait_open)
    object_id = waiting.remote(str(gate))
    assert isinstance(object_id, ray.ObjectID)
    assert ray.wait([object_id], timeout=0) == ([], [object_id])
    gate.touch()
    assert ray.get(object_id) is True


@pytest.mark.statement("remote-06", "more-remote-09")
def test_whoever_has_the_id_gets_the_value() -> None:
    """Made in one task, fetched in another, and by the driver."""

    @ray.remote
    def make() -> list[Any]:
        return [doubled.remote(4), ray.put("put in a task")]

    @ray.remote
    def fetch(ids: list[Any]) -> list[Any]:
        return list(ray.get(ids))

    ids = ray.get(make.remote())
    assert ray.get(ids) == [8, "put in a task"]
    assert ray.get(fetch.remote(ids)) == [8, "put in a task"]


@pytest.mark.statement("remote-08", "more-remote-08")
def test_ids_as_arguments_are_replaced() -> None:
    one, two = ray.put(1), doubled.remote(1)
    assert ray.get(shown.remote(one, two, one, key=two, other=one)) == (1, 2, (1,), 2, {"other": 1})


@pytest.mark.statement("more-remote-09")
def test_ids_inside_values_stay_ids() -> None:
    inner = doubled.remote(21)
    assert ray.get(kind_and_value.remote({"id": inner})) == (type(inner).__name__, 42)
    outer = ray.put({"id": inner})
    del inner
    assert ray.get(kind_and_value.remote(outer)) == ("ObjectID", 42)


@pytest.mark.statement("more-remote-03")
def test_signatures() -> None:
    assert ray.get(shown.remote(1)) == (1, "two", (), "key", {})
    assert ray.get(shown.remote(1, 2, 3, 4)) == (1, 2, (3, 4), "key", {})
    assert ray.get(shown.remote(second=2, first=1)) == (1, 2, (), "key", {})
    assert ray.get(shown.remote(1, key=3, more=4)) == (1, "two", (), 3, {"more": 4})
    assert ray.get(shown.remote(*range(5), **{"key": 6, "x y": 7})) == (0, 1, (2, 3, 4), 6, {"x y": 7})


@pytest.mark.statement("more-remote-10")
@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "number"),
        ((1, 2), {}, "takes 1"),
        ((1,), {"number": 2}, "multiple values"),
        ((1,), {"size": 2}, "unexpected keyword argument 'size'"),
    ],
)
def test_a_call_that_does_not_fit(args: tuple[Any, ...], kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words) as refused:
        doubled.remote(*args, **kwargs)
    assert "doubled" in str(refused.value)


@pytest.mark.statement("more-remote-11")
def test_a_direct_call() -> None:
    with pytest.raises(TypeError, match=r"doubled\.remote\("):
        doubled(1)

    @ray.remote
    class Actor:
        def method(self) -> int:
            return 1

    with pytest.raises(TypeError, match=r"Actor\.remote\("):
        Actor()
    with pytest.raises(TypeError, match=r"method\.remote\("):
        Actor.remote().method()


@pytest.mark.statement("more-remote-04")
def test_closures_and_nested_definitions() -> None:
    factor = 3

    @ray.remote
    def outer(number: int) -> int:
        @ray.remote
        def inner(value: int) -> int:
            return value * factor

        return int(ray.get(inner.remote(number))) + 1

    assert ray.get(outer.remote(5)) == 16
    assert ray.get(ray.remote(lambda x, y=2: x**y).remote(9)) == 81


@pytest.mark.statement("more-remote-05")
def test_recursion() -> None:
    assert ray.get(factorial.remote(12), timeout=20_000) == 479_001_600

    @ray.remote
    def even(number: int) -> bool:
        return True if number == 0 else bool(ray.get(odd.remote(number - 1)))

    @ray.remote
    def odd(number: int) -> bool:
        return False if number == 0 else bool(ray.get(even.remote(number - 1)))

    assert ray.get(even.remote(6), timeout=20_000) is True


@pytest.mark.statement("more-remote-06")
def test_functions_from_a_module_beside_the_script(programs: Programs) -> None:
    """Also from another working folder: it is the script's folder that counts."""
    programs.write(
        "beside.py",
        """
        import ray

        FACTOR = 7

        def plain(number):
            return number * FACTOR

        @ray.remote
        def decorated(number):
            return plain(number)
        """,
    )
    done = programs.run(
        """
        import os, ray
        import beside
        os.chdir("/")
        ray.init(num_cpus=1)

        @ray.remote
        def uses(number):
            import beside
            return beside.plain(number)

        print(ray.get([beside.decorated.remote(1), ray.remote(beside.plain).remote(2), uses.remote(3)]))
        """
    )
    assert done.out == "[7, 14, 21]\n"


@pytest.mark.statement("more-remote-07")
def test_redefinition_as_in_a_notebook(tmp_path: Path) -> None:
    """Calls keep the definition they were made with, also those that run after the new one exists."""
    gate = str(tmp_path / "gate")
    cells: dict[str, Any] = {"ray": ray, "wait_open": wait_open, "gate": gate}
    exec("@ray.remote\ndef f():\n    wait_open(gate)\n    return 'first'", cells)
    before = cells["f"].remote()
    exec("@ray.remote\ndef f():\n    return 'second'", cells)
    after = cells["f"].remote()
    assert ray.get(after) == "second"
    Path(gate).touch()
    assert ray.get(before) == "first"


@pytest.mark.statement("more-remote-12", "decorator-03")
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_num_return_vals(count: int, tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    @ray.remote(num_return_vals=count)
    def values() -> Any:
        mark.touch()
        return tuple(range(count)) if count > 1 else count

    ids = values.remote()
    if count == 0:
        assert ids is None
    elif count == 1:
        assert ray.get(ids) == 1
    else:
        assert len(set(ids)) == count
        assert ray.get(list(ids)) == list(range(count))
        assert [ray.get(each) for each in ids] == list(range(count))
    assert wait_for(lambda: mark.exists() or None, 5)


@pytest.mark.statement("remote-12", "more-remote-13")
def test_options_and_aliases() -> None:
    @ray.remote(num_returns=3)
    def three() -> tuple[int, ...]:
        return 1, 2, 3

    assert ray.get(three.remote()) == [1, 2, 3]

    @ray.remote
    def pair() -> tuple[int, int]:
        return 1, 2

    assert ray.get(pair.options(num_return_vals=2).remote()) == [1, 2]
    assert ray.get(pair.remote()) == (1, 2)


@pytest.mark.statement("more-remote-01")
@pytest.mark.parametrize(
    "options",
    [
        {"num_cpu": 1},
        {"num_return_vals": -1},
        {"num_return_vals": 1.5},
        {"num_cpus": -1},
        {"num_cpus": "1"},
        {"num_gpus": float("nan")},
        {"num_gpus": 1.5},
        {"num_custom_resource": -1},
        {"max_calls": -1},
        {"max_retries": -1},
        {"checkpoint_interval": 1},  # of actors only
    ],
    ids=lambda options: "-".join(map(str, *options.items())),
)
def test_senseless_options(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises((errors.ArgumentError, errors.ArgumentTypeError), match=name):
        ray.remote(**options)(lambda: None)


@pytest.mark.statement("more-remote-01")
def test_what_can_not_be_remote() -> None:
    for thing in (5, "f", None, [len]):
        with pytest.raises((errors.ArgumentError, errors.ArgumentTypeError)):
            ray.remote(thing)
    with pytest.raises((errors.ArgumentError, errors.ArgumentTypeError)):
        ray.remote(num_return_vals=2)(5)


@pytest.mark.statement("more-remote-14")
def test_a_task_whose_id_was_dropped_runs(tmp_path: Path) -> None:
    @ray.remote
    def leave(name: str) -> None:
        (tmp_path / name).touch()

    for number in range(10):
        leave.remote(str(number))
    assert wait_for(lambda: len(os.listdir(tmp_path)) == 10 or None, 10)


@pytest.mark.statement("remote-07", "put-10", "put-11")
def test_outputs_are_bytes_in_the_store() -> None:
    """What a task returns is a copy of its own: later changes of the worker's object are not seen."""

    @ray.remote
    def remembers(word: str) -> list[str]:
        words = remembers_words.setdefault("words", [])
        words.append(word)
        return words

    remembers_words: dict[str, list[str]] = {}
    first = remembers.remote("a")
    value = ray.get(first)
    ray.get([remembers.remote(str(number)) for number in range(5)])
    value.append("mine")
    assert ray.get(first) == ["a"]


@pytest.mark.quiet
@pytest.mark.statement("remote-04")
def test_tasks_run_side_by_side() -> None:
    """Two that sleep take as long as one."""
    ray.get([ray.remote(time.sleep).remote(0) for _ in range(4)])
    began = time.monotonic()
    ray.get([ray.remote(time.sleep).remote(0.4) for _ in range(2)])
    assert time.monotonic() - began < 0.75
