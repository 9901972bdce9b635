"""Arguments to bytes and back, on an arena with no other process."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray._kernel import DRIVER, UNIT, Arena
from ray.config import Config
from ray.core import session_state
from ray.core.arguments import NO_ARGUMENTS, decode, encode, place_of
from ray.core.resources import stock_of
from ray.core.session_state import SCRIPT_MODE, Current
from ray.core.store import value_of


@pytest.fixture
def current() -> Iterator[Current]:
    arena = Arena.create(16 << 20, [UNIT, 0, 0])
    arena.register(DRIVER, bytes(range(20)))
    session = Current(arena, arena, SCRIPT_MODE, Config(), stock_of(arena))
    session.at_end.append(arena.leave)
    session_state.enter(session)
    yield session
    session_state.leave()


def round_trip(session: Current, *args: Any, **kwargs: Any) -> tuple[list[Any], dict[str, Any]]:
    payload, deps, _ = encode(session, args, kwargs)
    values = [value_of(session, session.arena.get(oid)) for oid in deps or ()]
    assert isinstance(payload, bytes)
    positional, keywords = decode(payload, values)
    return list(positional), keywords


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=30,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(plain, max_size=6), st.dictionaries(st.text(min_size=1, max_size=3), plain, max_size=4))
def test_any_plain_arguments_come_back(current: Current, args: list[Any], kwargs: dict[str, Any]) -> None:
    assert round_trip(current, *args, **kwargs) == (args, kwargs)


def test_no_arguments_are_no_bytes(current: Current) -> None:
    payload, deps, nested = NO_ARGUMENTS
    assert (payload, deps, nested) == (b"", None, None)
    assert decode(b"", []) == ((), {})
    assert round_trip(current) == ([], {})


def test_ids_become_dependencies_wherever_they_stand(current: Current) -> None:
    one, two = current.arena.put(b"\x80\x05K\x01.", 0), current.arena.put(b"\x80\x05K\x02.", 0)
    payload, deps, nested = encode(current, (one,), {})
    assert (payload, deps, nested) == (b"\x02", [one], None)
    payload, deps, nested = encode(current, (5, one), {"key": two})
    assert deps == [one, two]
    assert place_of(payload, 0) == 1  # type: ignore[arg-type]
    assert place_of(payload, 1) == "key"  # type: ignore[arg-type]
    assert round_trip(current, 5, one, key=two, other="x") == ([5, 1], {"key": 2, "other": "x"})
    assert round_trip(current, one, two, one) == ([1, 2, 1], {})


def test_values_that_are_not_small_and_builtin_are_put_by_themselves(current: Current) -> None:
    before = current.arena.stats()["objects"]
    _, deps, _ = encode(current, (list(range(50)), "short", 1.5), {"k": (1, 2)})
    assert deps is None
    assert current.arena.stats()["objects"] == before
    for large in (set(), list(range(100)), "x" * 1000, object, {"a": {1}}):
        _, deps, _ = encode(current, (large,), {})
        assert deps is not None
        assert len(deps) == 1
    assert round_trip(current, {1, 2}, "x" * 5000, k={3}) == ([{1, 2}, "x" * 5000], {"k": {3}})


def test_an_id_inside_a_value_stays_an_id_and_is_kept_alive(current: Current) -> None:
    inner = current.arena.put(b"\x80\x05K\x01.", 0)
    (received,), _ = round_trip(current, [inner])
    assert received == [inner]


def test_many_arguments_go_through_a_block(current: Current) -> None:
    args = tuple(f"{n:060}" for n in range(500))
    payload, deps, _ = encode(current, args, {})
    assert deps is None
    assert not isinstance(payload, bytes)
