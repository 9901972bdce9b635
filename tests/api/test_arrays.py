"""Arrays, and whatever else hands out its buffers: no copies, no writing, and no moving."""

import gc
import pickle
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ray
from ray._kernel import current

ALIGNMENT = 64
pytestmark = pytest.mark.usefixtures("cluster")
Init = Callable[..., dict[str, Any]]


class Framed:
    """Like a DataFrame or an Arrow table: a class that pickles its buffer out of band."""

    def __init__(self, data: Any) -> None:
        self.data = memoryview(data)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Framed, (pickle.PickleBuffer(self.data),)


def address(array: Any) -> int:
    return int(np.asarray(array).__array_interface__["data"][0])


@pytest.mark.statement("arrays-02", "arrays-03")
def test_two_gets_give_one_piece_of_memory() -> None:
    object_id = ray.put(np.arange(10**6))
    first, second = ray.get(object_id), ray.get(object_id)
    assert address(first) == address(second)
    assert first.sum() == 499_999_500_000


@pytest.mark.statement("arrays-01", "arrays-02")
def test_a_get_does_not_touch_the_bytes() -> None:
    """80 MB are fetched a hundred times in less time than two copies of them would take."""
    array = np.ones(10**7)
    object_id = ray.put(array)
    ray.get(object_id)
    began = time.perf_counter()
    for _ in range(100):
        ray.get(object_id)
    fetched = time.perf_counter() - began
    began = time.perf_counter()
    copies = [array.copy() for _ in range(2)]
    assert fetched < time.perf_counter() - began
    assert len(copies) == 2


@pytest.mark.statement("arrays-02", "arrays-03")
def test_a_task_reads_the_same_memory() -> None:
    """All tasks together grow by nothing that is near the array's size."""

    @ray.remote
    def grown(array: Any) -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert array[-1] == 1.0
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    object_id = ray.put(np.ones(10**7))
    assert max(ray.get([grown.remote(object_id) for _ in range(4)])) < 8_000  # KiB


@pytest.mark.statement("arrays-04")
def test_arrays_are_read_only_until_copied() -> None:
    @ray.remote
    def make() -> Any:
        return np.zeros(10**5)

    object_id = make.remote()
    array = ray.get(object_id)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match=r"read-only|WRITEABLE"):
        array.flags.writeable = True
    copied = array.copy()
    copied[0] = 1
    assert copied[0] == 1
    assert ray.get(object_id)[0] == 0


@pytest.mark.statement("more-arrays-01", "arrays-02")
@pytest.mark.parametrize("size", [1, 3, 1000, 10**6])
def test_alignment_and_nesting(size: int) -> None:
    value = {"list": [np.arange(size), np.ones(size, np.uint8)], "tuple": (np.full(size, 0.5, np.float32),)}
    back = ray.get(ray.put(value))
    arrays = [*back["list"], *back["tuple"]]
    for array, original in zip(arrays, [*value["list"], *value["tuple"]], strict=True):
        assert np.array_equal(array, original)
        assert not array.flags.writeable
        assert address(array) % ALIGNMENT == 0


@pytest.mark.statement("arrays-04")
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24).reshape(4, 6).T,
        np.arange(24).reshape(4, 6)[::2, ::3],
        np.zeros((0, 3)),
        np.array(7.5),
        np.array(["a", "bc"]),
        np.array([(1, 2.5)], dtype=[("x", "i4"), ("y", "f8")]),
        np.array([{"an": "object"}, None], dtype=object),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.asfortranarray(np.arange(12).reshape(3, 4)),
    ],
    ids=["transposed", "strided", "empty", "scalar", "text", "record", "object", "dates", "fortran"],
)
def test_every_kind_of_array(array: Any) -> None:
    back = ray.get(ray.put(array))
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert np.array_equal(back, array)


@pytest.mark.statement("more-arrays-02")
def test_out_of_band_buffers() -> None:
    object_id = ray.put(Framed(b"x" * 10**6))
    first, second = ray.get(object_id), ray.get(object_id)
    assert bytes(first.data) == b"x" * 10**6
    assert first.data.readonly
    assert address(np.frombuffer(first.data, np.uint8)) == address(np.frombuffer(second.data, np.uint8))


@pytest.mark.statement("more-arrays-02")
def test_data_frames() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": np.arange(10**5), "b": np.linspace(0, 1, 10**5)})
    object_id = ray.put(frame)
    first, second = ray.get(object_id), ray.get(object_id)
    assert first.equals(frame)
    assert address(first["a"].to_numpy()) == address(second["a"].to_numpy())


@pytest.mark.statement("more-arrays-03")
def test_an_array_outlives_its_id() -> None:
    """Its memory is not given to anyone else while a view of it lives, and is afterwards."""
    arena = current()
    assert arena is not None
    before = arena.stats()["heap_used_bytes"]
    slice_of = ray.get(ray.put(np.full(10**6, 7.0)))[100:200]
    for _ in range(20):
        ray.put(np.zeros(10**6))
    assert (slice_of == 7.0).all()
    assert arena.stats()["heap_used_bytes"] - before > 7 * 10**6
    del slice_of
    gc.collect()
    ray.get(ray.put(0))
    assert arena.stats()["heap_used_bytes"] - before < 10**6


@pytest.mark.statement("more-arrays-03")
def test_an_array_outlives_its_session(init: Init) -> None:
    init(num_cpus=1)
    array = ray.get(ray.put(np.full(10**6, 7.0)))
    ray.shutdown()
    assert (array == 7.0).all()
    ray.init(num_cpus=2)
    ray.put(np.zeros(10**6))
    assert (array == 7.0).all()
