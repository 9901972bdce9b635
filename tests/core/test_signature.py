"""Signatures agree with Python about which calls fit."""

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.core.signature import Signature


def plain(a: Any, b: Any, c: Any = 3) -> None: ...
def none() -> None: ...
def everything(a: Any, /, b: Any, c: Any = 3, *args: Any, d: Any, e: Any = 5, **kwargs: Any) -> None: ...
def positional_only(a: Any, b: Any = 2, /) -> None: ...
def keyword_only(*, x: Any, y: Any = 1) -> None: ...
def extra(*args: Any) -> None: ...
def extra_keywords(a: Any = 1, **kwargs: Any) -> None: ...


FUNCTIONS = [plain, none, everything, positional_only, keyword_only, extra, extra_keywords]
NAMES = ["a", "b", "c", "d", "e", "x", "y", "unknown", "args", "kwargs"]


@given(
    st.sampled_from(FUNCTIONS),
    st.lists(st.integers(), max_size=5),
    st.dictionaries(st.sampled_from(NAMES), st.integers(), max_size=5),
)
def test_accepts_exactly_what_python_accepts(
    function: Callable[..., Any], args: list[int], kwargs: dict[str, int]
) -> None:
    signature = pickle.loads(pickle.dumps(Signature.of(function)))
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        with pytest.raises(TypeError, match=function.__name__):
            signature.check(tuple(args), kwargs, function.__name__)
        assert kwargs or not signature.low <= len(args) <= signature.high
    else:
        signature.check(tuple(args), kwargs, function.__name__)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_fast_path_lets_only_fitting_calls_through(function: Callable[..., Any]) -> None:
    signature = Signature.of(function)
    for count in range(10):
        if signature.low <= count <= signature.high:
            inspect.signature(function).bind(*range(count))


def test_messages_name_function_and_argument() -> None:
    check = Signature.of(plain).check
    with pytest.raises(TypeError, match=r"plain\(\) is missing required arguments: 'a', 'b'"):
        check((), {}, "plain")
    with pytest.raises(TypeError, match=r"takes from 2 to 3 positional arguments but 4 were given"):
        check((1, 2, 3, 4), {}, "plain")
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'z'"):
        check((1, 2), {"z": 1}, "plain")
    with pytest.raises(TypeError, match=r"multiple values for argument 'a'"):
        check((1, 2), {"a": 1}, "plain")


def test_methods_leave_self_out() -> None:
    class Thing:
        def method(self, x: int) -> None: ...

        def odd(*args: int) -> None: ...

    Signature.of(Thing.method, skip_first=True).check((1,), {}, "method")
    with pytest.raises(TypeError):
        Signature.of(Thing.method, skip_first=True).check((), {}, "method")
    Signature.of(Thing.odd, skip_first=True).check((), {}, "odd")


def test_functions_that_do_not_tell_accept_anything() -> None:
    signature = Signature.of(dict.update)
    signature.check((1, 2), {"k": 3}, "update")
