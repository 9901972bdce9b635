"""Options of remote functions, actor classes and methods."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ray
from ray.core.options import ActorOptions, Demand, TaskOptions, checked_method
from ray.errors import ArgumentError, ArgumentTypeError


def test_defaults() -> None:
    options = TaskOptions.checked({}, "f")
    assert (options.num_return_vals, options.num_cpus, options.num_gpus) == (1, 1.0, 0.0)
    assert (options.max_calls, options.max_retries) == (0, 3)
    assert options.demand == Demand(10_000, 0, 0)
    assert ActorOptions.checked({}, "A").checkpoint_interval == 0


def test_num_returns_is_another_name_for_num_return_vals() -> None:
    assert TaskOptions.checked({"num_returns": 4}, "f").num_return_vals == 4
    with pytest.raises(ArgumentTypeError, match="twice"):
        TaskOptions.checked({"num_returns": 4, "num_return_vals": 4}, "f")


@pytest.mark.parametrize(
    ("keywords", "error", "word"),
    [
        ({"num_cpu": 1}, ArgumentTypeError, "num_cpus"),
        ({"checkpoint_interval": 1}, ArgumentTypeError, "not an option of a remote function"),
        ({"num_cpus": "2"}, ArgumentTypeError, "num_cpus"),
        ({"num_cpus": True}, ArgumentTypeError, "num_cpus"),
        ({"num_cpus": -1}, ArgumentError, "zero or more"),
        ({"num_cpus": math.nan}, ArgumentError, "zero or more"),
        ({"num_cpus": math.inf}, ArgumentError, "zero or more"),
        ({"num_cpus": 0.00001}, ArgumentError, "smallest share"),
        ({"num_gpus": 1.5}, ArgumentError, "whole ones"),
        ({"num_return_vals": -1}, ArgumentError, "from 0"),
        ({"num_return_vals": 1.0}, ArgumentTypeError, "whole number"),
        ({"max_calls": -1}, ArgumentError, "max_calls"),
        ({"max_retries": None}, ArgumentTypeError, "max_retries"),
    ],
)
def test_refused_for_functions(keywords: dict[str, Any], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word) as caught:
        TaskOptions.checked(keywords, "my_function")
    assert "my_function" in str(caught.value)


@pytest.mark.parametrize(
    ("keywords", "error", "word"),
    [
        ({"num_return_vals": 2}, ArgumentTypeError, "ray.method"),
        ({"max_calls": 2}, ArgumentTypeError, "not an option of an actor class"),
        ({"checkpoint_interval": 0}, ArgumentError, "checkpoint_interval"),
        ({"checkpoint_interval": -1}, ArgumentError, "checkpoint_interval"),
    ],
)
def test_refused_for_classes(keywords: dict[str, Any], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        ActorOptions.checked(keywords, "MyClass")


def test_method_options() -> None:
    assert checked_method({"num_returns": 3}, "m") == 3
    with pytest.raises(ArgumentTypeError, match="num_return_vals"):
        checked_method({}, "m")
    with pytest.raises(ArgumentTypeError, match="num_cpus"):
        checked_method({"num_cpus": 3}, "m")


@given(st.floats(min_value=0.0001, max_value=1000), st.floats(min_value=0.0001, max_value=1))
def test_demands_are_whole_units_close_to_what_was_asked(cpus: float, gpus: float) -> None:
    demand = TaskOptions.checked({"num_cpus": cpus, "num_gpus": gpus}, "f").demand
    assert abs(demand.cpu - cpus * 10_000) <= 0.5
    assert abs(demand.gpu - gpus * 10_000) <= 0.5


def test_decorator_refuses_where_it_stands() -> None:
    with pytest.raises(ArgumentTypeError, match="bare over a function or class"):
        ray.remote()
    with pytest.raises(ArgumentTypeError, match="bare over a function or class"):
        ray.remote(len, num_cpus=1)
    with pytest.raises(ArgumentTypeError, match="not an option"):
        ray.remote(num_cpu=1)
    with pytest.raises(ArgumentTypeError, match="function or a class"):
        ray.remote(5)
    with pytest.raises(ArgumentTypeError, match="twice"):
        ray.remote(ray.remote(lambda: 1))


def test_async_functions_and_methods_are_refused() -> None:
    async def f() -> None: ...

    class Actor:
        async def m(self) -> None: ...

    with pytest.raises(ArgumentTypeError, match="async"):
        ray.remote(f)
    with pytest.raises(ArgumentTypeError, match="async"):
        ray.remote(Actor)


def test_direct_calls_and_inheritance_are_refused() -> None:
    @ray.remote
    def f() -> None: ...

    @ray.remote
    class Actor: ...

    with pytest.raises(TypeError, match=r"f\.remote"):
        f()
    with pytest.raises(TypeError, match=r"Actor\.remote"):
        Actor()
    with pytest.raises(TypeError, match="plain class"):

        class Inheriting(Actor):  # type: ignore[misc, valid-type]
            pass


def test_handles_keep_name_and_documentation() -> None:
    @ray.remote
    def f(x: int) -> int:
        """Adds one."""
        return x + 1

    @ray.remote
    class Actor:
        """Counts."""

    assert (f.__name__, f.__doc__, f.__module__) == ("f", "Adds one.", __name__)
    assert (Actor.__name__, Actor.__doc__, Actor.__module__) == ("Actor", "Counts.", __name__)
    assert repr(f) == "RemoteFunction(f)"
    assert repr(Actor) == "ActorClass(Actor)"
