"""Remote functions in a session: how they are exported, called, pickled and redefined."""

import gc
import pickle
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

import ray
from ray.core import session_state
from ray.errors import InfeasibleResourcesError, RayConnectionError, SerializationError

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def add(a: Any, b: Any = 10, *args: Any, c: Any = 100, **kwargs: Any) -> Any:
    return a + b + sum(args) + c + sum(kwargs.values())


@ray.remote
def even(n: int) -> bool:
    return True if n == 0 else ray.get(odd.remote(n - 1))


@ray.remote
def odd(n: int) -> bool:
    return False if n == 0 else ray.get(even.remote(n - 1))


def test_positional_keyword_default_and_extra_arguments() -> None:
    assert ray.get(add.remote(1)) == 111
    assert ray.get(add.remote(1, 2)) == 103
    assert ray.get(add.remote(1, b=2, c=3)) == 6
    assert ray.get(add.remote(1, 2, 3, 4, c=5, x=6, y=ray.put(7))) == 28
    assert ray.get(add.remote(a=ray.put(1), b=ray.put(2))) == 103


def test_numbers_of_return_values() -> None:
    @ray.remote
    def count(n: int) -> Any:
        return tuple(range(n)) if n > 1 else n

    assert count.options(num_return_vals=0).remote(0) is None
    assert ray.get(count.options(num_returns=1).remote(1)) == 1
    ids = count.options(num_return_vals=200).remote(200)
    assert ray.get(ids) == list(range(200))


def test_recursion_and_mutual_recursion() -> None:
    @ray.remote
    def factorial(n: int) -> int:
        return 1 if n == 0 else n * ray.get(factorial.remote(n - 1))

    assert ray.get(factorial.remote(10)) == 3628800
    assert ray.get(even.remote(10)) is True
    assert ray.get(odd.remote(10)) is False


def test_functions_defined_in_tasks_and_passed_around() -> None:
    @ray.remote
    def make(k: int) -> Any:
        @ray.remote
        def inner(x: int) -> int:
            return x * k

        return inner, inner.remote(1)

    @ray.remote
    def apply(function: Any, x: int) -> int:
        result: int = ray.get(function.remote(x))
        return result

    inner, first = ray.get(make.remote(3))
    assert ray.get(first) == 3
    assert ray.get(inner.remote(5)) == 15
    assert ray.get(apply.remote(inner, 7)) == 21
    assert ray.get(apply.remote(add, 7)) == 117
    assert repr(inner) == "RemoteFunction(inner)"


def test_captured_values_and_ids() -> None:
    kept = ray.put([1, 2])

    @ray.remote
    def f() -> Any:
        return ray.get(kept)

    waiting = f.remote()
    assert ray.get(waiting) == [1, 2]


def test_redefinition_leaves_earlier_calls_alone() -> None:
    def define(value: int) -> Any:
        @ray.remote
        def f() -> int:
            return value

        return f

    old, new = define(1), define(2)
    assert ray.get([old.remote(), new.remote(), old.remote()]) == [1, 2, 1]


def test_a_function_is_put_into_the_store_once() -> None:
    @ray.remote
    def f() -> None: ...

    current = session_state.require("test")
    ray.get(f.remote())
    definition = f._definition.exported(current)
    ray.get([f.remote() for _ in range(10)])
    assert f._definition.exported(current) == definition
    assert f.options(num_cpus=2)._definition.exported(current) == definition
    assert pickle.loads(pickle.dumps(f))._definition.exported(current) == definition


def test_a_recursive_function_is_freed_with_its_handle() -> None:
    current = session_state.require("test")

    def export() -> bytes:
        @ray.remote
        def countdown(n: int) -> int:
            return n if n == 0 else ray.get(countdown.remote(n - 1))

        return countdown._definition.exported(current).binary()

    data = export()
    assert ray.get(ray.ObjectID(data))
    gc.collect()  # a function that names itself is a cycle
    [ray.put(0) for _ in range(100)]  # dropped ids are given back in batches
    with pytest.raises(ray.errors.ObjectLostError):
        ray.get(ray.ObjectID(data))


def test_threads_may_make_the_first_call_together() -> None:
    @ray.remote
    def f(x: int) -> int:
        return x

    barrier = threading.Barrier(8)
    results: list[int] = []

    def call(n: int) -> None:
        barrier.wait()
        results.append(ray.get(f.remote(n)))

    threads = [threading.Thread(target=call, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(8))


def test_an_unpicklable_function_fails_where_it_is_called_and_can_be_mended() -> None:
    captured: list[Any] = [threading.Lock()]

    @ray.remote
    def f() -> int:
        return len(captured)

    for _ in range(2):
        with pytest.raises(SerializationError, match="f"):
            f.remote()
    captured[0] = "now it can"
    assert ray.get(f.remote()) == 1


def test_demands_beyond_the_node_are_refused_at_once() -> None:
    with pytest.raises(InfeasibleResourcesError, match="add") as caught:
        add.options(num_cpus=3).remote(1)
    assert caught.value.asked == {"CPU": 3.0}
    assert caught.value.available == {"CPU": 2.0}
    with pytest.raises(InfeasibleResourcesError, match="GPU=1"):
        add.options(num_gpus=1).remote(1)
    assert ray.get(add.options(num_cpus=0).remote(1)) == 111
    assert ray.get(add.options(num_cpus=0.5).remote(1)) == 111


def test_large_arguments_and_results() -> None:
    data = bytes(range(256)) * 4096 * 4

    @ray.remote
    def same(value: Any) -> Any:
        return value

    assert ray.get(same.remote(data)) == data
    assert ray.get(same.remote({"a": [data, data]})) == {"a": [data, data]}


def test_a_handle_from_an_ended_session_says_so(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import ray

            @ray.remote
            def make():
                @ray.remote
                def inner():
                    return 1
                return inner

            @ray.remote
            def mine():
                return 2

            ray.init(num_cpus=1)
            inner = ray.get(make.remote())
            assert ray.get([inner.remote(), mine.remote()]) == [1, 2]
            ray.shutdown()
            try:
                mine.remote()
            except ray.errors.RayConnectionError as error:
                assert "ray.init" in str(error), error
            ray.init(num_cpus=1)
            assert ray.get(mine.remote()) == 2
            try:
                inner.remote()
            except ray.errors.RayConnectionError as error:
                assert "session that has ended" in str(error) or "in that session" in str(error), error
            else:
                raise SystemExit("the call went through")
            """
        )
    )
    subprocess.run([sys.executable, str(program)], check=True, timeout=60)


def test_pickling_without_a_session_says_so() -> None:
    current, session_state.current = session_state.current, None
    try:
        with pytest.raises(RayConnectionError, match=r"ray\.init"):
            pickle.dumps(add)
        with pytest.raises(RayConnectionError, match=r"ray\.init"):
            add.options(num_cpus=2).remote(1)
    finally:
        session_state.current = current
