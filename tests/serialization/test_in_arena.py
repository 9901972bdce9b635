"""Values through a real arena: what the other tests of this folder assume about stores holds there."""

import gc

import numpy as np
import pytest

from ray import _kernel
from ray.serialization.failures import decode_failure, encode_failure
from ray.serialization.formats import BUFFERS, PICKLE, RAW
from ray.serialization.functions import pickle_function, unpickle_function
from ray.serialization.values import Parts, deserialize, serialize


@pytest.fixture(scope="module")
def whole_arena():
    made = _kernel.Arena.create(64 << 20, [2 * _kernel.UNIT, 0, 0])
    made.register(_kernel.DRIVER, b"driver".ljust(20, b"."))
    made.make_current()
    yield made
    made.leave()


@pytest.fixture
def arena(whole_arena):
    yield whole_arena
    gc.collect()
    whole_arena.journal_read(0)  # references that were dropped are given back in batches, or now
    stats = whole_arena.stats()
    assert whole_arena.check() == []
    assert (stats["objects"], stats["heap_used_bytes"]) == (0, 0), "the test left objects in the store"


def put(arena, value):
    data, fmt, nested = serialize(value)
    if isinstance(data, Parts):
        block = arena.allocate(data.nbytes)
        data.write_into(block)
        data = block
    return arena.put(data, fmt, nested)


def get(arena, oid):
    return deserialize(*arena.get(oid))


@pytest.mark.parametrize("count", [0, 1, 10, 500, 10_000, 1_000_000])
def test_arrays_of_every_size_are_aligned_read_only_and_equal(arena, count):
    value = {"x": [np.arange(count), (np.arange(count, dtype="u1"),)], "text": "y" * 77}
    oid = put(arena, value)
    again = get(arena, oid)
    for array, expected in zip(
        (again["x"][0], again["x"][1][0]), (value["x"][0], value["x"][1][0]), strict=True
    ):
        assert np.array_equal(array, expected)
        assert array.dtype == expected.dtype
        assert not array.flags.writeable
        assert array.ctypes.data % 64 == 0 or not count
    del again, array, oid


def test_two_gets_of_a_large_array_show_the_same_memory(arena):
    oid = put(arena, np.arange(100_000))
    first, second = get(arena, oid), get(arena, oid)
    assert first.ctypes.data == second.ctypes.data
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        first.flags.writeable = True
    del first, second, oid


def test_an_array_outlives_its_id(arena):
    oid = put(arena, {"large": np.arange(1_000_000), "small": np.arange(3)})
    small = get(arena, oid)["small"]
    del oid
    gc.collect()
    # What would take its place, had it been freed.
    others = [put(arena, np.full(1_000_000, 7)) for _ in range(5)]
    assert small.tolist() == [0, 1, 2]
    del others, small


def test_large_values_without_buffers_come_back(arena):
    for value, expected in (
        (b"x" * 100_000, RAW),
        ("y" * 100_000, PICKLE),
        ([{n} for n in range(10_000)], PICKLE),
    ):
        oid = put(arena, value)
        fmt, data = arena.get(oid)
        assert fmt == expected
        again = deserialize(fmt, data)
        assert type(again) is type(value)
        assert again == value
    del oid, data, again


def test_ids_in_a_value_live_as_long_as_the_value(arena):
    inner = put(arena, [1, 2])
    outer = put(arena, {"k": [(inner,), {inner}], "array": np.arange(100_000)})
    name = inner.binary()
    del inner
    gc.collect()
    again = get(arena, outer)["k"][0][0]
    assert again.binary() == name
    assert get(arena, again) == [1, 2]
    del outer
    gc.collect()
    assert get(arena, again) == [1, 2]
    del again


def test_ids_are_reported_once_and_by_the_innermost_collection(arena):
    oid = put(arena, 5)
    assert serialize([oid, {"k": (oid, oid)}])[2] == [oid]
    (_, _, inner), outer = _kernel.collect(serialize, [oid])
    assert inner == [oid]
    assert outer is None


def test_ids_in_functions_and_failures_are_left_to_the_caller(arena):
    oid = put(arena, 5)
    blob, collected = _kernel.collect(pickle_function, lambda: oid)
    assert collected == [oid]
    assert unpickle_function(blob)() == oid
    (data, fmt), collected = _kernel.collect(encode_failure, ValueError(oid), "f")
    assert collected == [oid]
    assert decode_failure(fmt, data).args == (oid,)


def test_a_failed_pickling_holds_no_ids(arena):
    oid = put(arena, 5)
    with pytest.raises(Exception, match="cannot pickle"):
        serialize([oid, {1}, (n for n in ())])
    del oid


def test_a_small_value_with_an_array_is_still_one_run_of_bytes(arena):
    data, fmt, _ = serialize([np.arange(10)])
    assert type(data) is bytes
    assert fmt == BUFFERS
