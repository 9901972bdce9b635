from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray.serialization.arguments import is_simple

SIMPLE = [
    None,
    True,
    3,
    -(2**63),
    1.5,
    "",
    "short",
    "x" * 998,
    b"x" * 998,
    1 << 60_000,
    [],
    (),
    {},
    [1, "a", (2.0, {"k": [None]})],
    list(range(99)),
    {n: n for n in range(99)},
    [[0] * 98] * 10,
]
NOT_SIMPLE = [
    "x" * 1000,
    b"x" * 1000,
    list(range(100)),
    {n: n for n in range(100)},
    [[0] * 99] * 10,
    ["x" * 500, "y" * 500],
    {"x" * 500: "y" * 500},
    1 << 100_000,
    np.zeros(1),
    np.float64(1),
    {1, 2},
    bytearray(b"x"),
    object(),
    [object()],
    {"k": object()},
    OrderedDict(),
    lambda: 1,
    type("Int", (int,), {})(3),
]


@pytest.mark.parametrize("value", SIMPLE, ids=lambda value: type(value).__name__)
def test_small_builtins_travel_with_the_task(value):
    assert is_simple(value)


@pytest.mark.parametrize("value", NOT_SIMPLE, ids=lambda value: str(type(value)))
def test_everything_else_is_put(value):
    assert not is_simple(value)


def test_a_list_within_itself_is_not_simple():
    endless: list = []
    endless.append(endless)
    assert not is_simple(endless)


def count(value):
    """Elements and characters, by the words of the API text, with no shortcuts."""
    if isinstance(value, str | bytes):
        return 1 + len(value)
    if isinstance(value, dict):
        return 1 + sum(count(key) + count(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return 1 + sum(count(item) for item in value)
    return 1


def longest(value):
    if isinstance(value, dict):
        return max([len(value), *map(longest, value.values())])
    if isinstance(value, list | tuple):
        return max([len(value), *map(longest, value)])
    return 0


LEAVES = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text() | st.binary()
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(-5, 5), inner, max_size=20)
    ),
)


@settings(deadline=None)
@given(VALUES, st.integers(0, 11), st.integers(0, 120))
def test_the_rule_is_the_one_of_the_text(value, doublings, width):
    for _ in range(doublings):
        value = [value, value]
    value = [value, [0] * width]
    assert is_simple(value) == (count(value) < 1000 and longest(value) < 100)


def test_a_value_that_branches_without_end_is_decided_at_once():
    value: list = []
    for _ in range(200):
        value = [value, value]
    assert not is_simple(value)


def test_depth_alone_is_no_obstacle():
    value: list = []
    for _ in range(900):
        value = [value]
    assert is_simple(value)
