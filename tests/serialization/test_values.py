import collections
import gc
import pickle
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray import _kernel
from ray.errors import SerializationError
from ray.serialization.formats import BUFFERS, PICKLE, RAW
from ray.serialization.values import Parts, deserialize, serialize


class Store:
    """A block of aligned memory outside any arena."""

    def __init__(self, nbytes):
        self.whole = np.zeros(nbytes + 64, np.uint8)
        start = -self.whole.ctypes.data % 64
        self.memory = self.whole[start : start + nbytes]
        self.written = []

    def write(self, offset, data):
        flat = memoryview(data).cast("B")
        self.memory[offset : offset + flat.nbytes] = flat
        self.written.append(data)

    def view(self):
        self.memory.flags.writeable = False
        return memoryview(self.memory)


def stored(value):
    """Format and data as a store would give them back."""
    data, fmt, _ = serialize(value)
    if isinstance(data, Parts):
        block = Store(data.nbytes)
        data.write_into(block)
        assert bytes(block.memory) == data.to_bytes()
        return fmt, block.view()
    return fmt, data


def round_trip(value):
    return deserialize(*stored(value))


def arrays_in(value):
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [array for item in value for array in arrays_in(item)] if isinstance(value, list | tuple) else []


Point = collections.namedtuple("Point", "x y")

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner)
    ),
)


@given(VALUES)
def test_plain_values_come_back_equal_and_of_the_same_type(value):
    fmt, data = stored(value)
    again = deserialize(fmt, data)
    assert again == value
    assert repr(again) == repr(value)


def test_small_plain_values_are_one_plain_pickle_and_contain_no_ids():
    for value in (None, 1, "a", b"a", (1, [2, {"k": None}]), list(range(16)), {"a": {"b": {"c": ()}}}):
        assert serialize(value) == (pickle.dumps(value, 5), PICKLE, None)


def test_long_bytes_are_stored_as_they_are():
    value = b"x" * 100_000
    data, fmt, nested = serialize(value)
    assert data is value
    assert (fmt, nested) == (RAW, None)
    again = deserialize(fmt, memoryview(data))
    assert type(again) is bytes
    assert again == value


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        frozenset({5}),
        1 + 2j,
        range(3),
        collections.OrderedDict(a=1),
        collections.defaultdict(list, a=[1]),
        Point(1, 2),
        bytearray(b"abc"),
        ValueError("x"),
        int,
        len,
        np.float32(1.5),
        np.dtype("f8"),
        list(range(100_000)),
        "x" * 100_000,
    ],
    ids=lambda value: str(type(value)),
)
def test_other_values_come_back(value):
    again = round_trip(value)
    assert type(again) is type(value)
    assert repr(again) == repr(value)


def test_functions_and_classes_without_an_importable_name_come_back():
    step = 3

    class Local:
        def __init__(self, value):
            self.value = value

    again = round_trip([lambda x: x + step, Local(5)])
    assert again[0](1) == 4
    assert again[1].value == 5


def test_one_object_in_two_places_stays_one_object():
    shared = [1]
    again = round_trip([shared, shared, np.zeros(3)])
    assert again[0] is again[1]
    array = np.zeros(3)
    again = round_trip({"a": array, "b": [array]})
    assert again["a"] is again["b"][0]


ARRAYS = {
    "small": np.arange(10),
    "empty": np.zeros((0, 3)),
    "scalar": np.array(5.0),
    "large": np.arange(100_000).reshape(100, 1000),
    "fortran": np.asfortranarray(np.arange(12).reshape(3, 4)),
    "strided": np.arange(100).reshape(10, 10)[::2, 1::3],
    "one stride": np.arange(100)[::2],
    "reversed": np.arange(10)[::-1],
    "transposed 3d": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "broadcast": np.broadcast_to(np.arange(3), (4, 3)),
    "dates": np.array(["2017-11-01", "NaT"], "M8[D]"),
    "durations": np.array([1, 2], "m8[ms]"),
    "text": np.array(["ab", "c"]),
    "bytes": np.array([b"ab", b"c"]),
    "big-endian": np.arange(3, dtype=">i4"),
    "structured": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "void": np.zeros(3, "V5"),
    "empty text": np.array(["", ""], "U0"),
    "complex": np.ones(3, "c16"),
    "half": np.ones(3, "f2"),
    "bool": np.array([True, False]),
    "object": np.array([None, {"k": 1}], dtype=object),
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("place", [lambda a: a, lambda a: {"x": [1, (a,)]}], ids=["top", "nested"])
def test_every_array_comes_back_equal_and_read_only(name, place):
    array = ARRAYS[name]
    (again,) = arrays_in([round_trip(place(array))])
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert again.tolist() == array.tolist()
    assert not again.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        again[...] = again


@pytest.mark.parametrize("name", [name for name in ARRAYS if name not in ("object", "empty text")])
def test_array_contents_are_aligned_and_not_copied_out_of_the_store(name):
    array = ARRAYS[name]
    fmt, data = stored([array, array + array if name in ("small", "large") else array])
    assert fmt == BUFFERS
    again = deserialize(fmt, data)[0]
    assert again.ctypes.data % 64 == 0 or not again.size
    if isinstance(data, memoryview) and again.size:
        base = np.frombuffer(data, np.uint8).ctypes.data
        assert base < again.ctypes.data < base + data.nbytes


def test_fortran_order_is_kept():
    again = round_trip(ARRAYS["fortran"])
    assert again.flags.f_contiguous
    assert not again.flags.c_contiguous


def test_an_object_array_may_contain_itself():
    array = np.empty(2, dtype=object)
    array[0] = array
    array[1] = [array]
    again = round_trip(array)
    assert again[0] is again
    assert again[1][0] is again
    assert not again.flags.writeable


def test_a_large_array_is_written_once_from_where_it_lies():
    array = np.arange(1_000_000)
    data, fmt, nested = serialize({"x": array})
    assert isinstance(data, Parts)
    assert (fmt, nested) == (BUFFERS, None)
    assert data.nbytes < array.nbytes + 1000
    block = Store(data.nbytes)
    data.write_into(block)
    sources = [np.frombuffer(piece, np.uint8).ctypes.data for piece in block.written]
    assert array.ctypes.data in sources


def test_an_array_keeps_the_stored_data_alive():
    fmt, data = stored([np.arange(10_000), np.arange(5)])
    first, second = deserialize(fmt, data)
    memory = weakref.ref(data.obj.base)
    del data
    del first
    gc.collect()
    assert memory() is not None
    assert second.tolist() == [0, 1, 2, 3, 4]
    del second
    gc.collect()
    assert memory() is None


class Image:
    """A foreign type that speaks protocol 5, as Arrow's buffers do."""

    def __init__(self, pixels):
        self.pixels = pixels

    def __reduce_ex__(self, protocol):
        return Image, (pickle.PickleBuffer(self.pixels),)


@pytest.mark.parametrize("nbytes", [0, 10, 1_000_000])
def test_buffers_of_other_types_are_not_copied_out(nbytes):
    fmt, data = stored([Image(bytearray(b"p" * nbytes))])
    assert fmt == BUFFERS
    (again,) = deserialize(fmt, data)
    view = memoryview(again.pixels)
    assert view.readonly
    assert bytes(view) == b"p" * nbytes


def test_data_frames_and_arrow_tables_are_not_copied_out():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"a": np.arange(100_000), "b": np.linspace(0, 1, 100_000), "c": ["x", "y"] * 50_000}
    )
    data, _, _ = serialize(frame[["a", "b"]])
    assert isinstance(data, Parts)
    assert round_trip(frame).equals(frame)
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"a": np.arange(100_000)})
    fmt, stored_table = stored(table)
    again = deserialize(fmt, stored_table)
    assert again.equals(table)
    address = again.column("a").chunk(0).buffers()[1].address
    base = np.frombuffer(stored_table, np.uint8).ctypes.data
    assert base < address < base + stored_table.nbytes
    assert address % 64 == 0


def test_a_class_of_main_reaches_a_process_that_does_not_know_it(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        "import sys, numpy as np\n"
        "from ray.serialization.values import serialize\n"
        "class Thing:\n"
        "    def __init__(self): self.data = np.arange(4)\n"
        "    def total(self): return int(self.data.sum()) + offset\n"
        "offset = 100\n"
        "data, fmt, _ = serialize([Thing(), lambda x: x * offset])\n"
        "assert type(data) is bytes\n"
        "open(sys.argv[1], 'wb').write(bytes([fmt]) + data)\n"
    )
    out = tmp_path / "value"
    subprocess.run([sys.executable, script, out], check=True, timeout=60)
    written = out.read_bytes()
    thing, function = deserialize(written[0], written[1:])
    assert thing.total() == 106
    assert function(2) == 200


def test_ids_inside_a_value_are_reported():
    (_, _, inner), outer = _kernel.collect(serialize, [1, {"k": {2}}])
    assert inner is None
    assert outer is None


class TestFailures:
    def test_the_part_at_fault_is_named(self):
        with pytest.raises(SerializationError) as caught:
            serialize({"model": [1, {"lock": threading.Lock()}]}, "the result of 'f'")
        error = caught.value
        assert error.operation == "pickle"
        assert error.subject == "the result of 'f'"
        assert error.type_name == "_thread.lock"
        assert error.path == "['model'][1]['lock']"
        assert isinstance(error.__cause__, TypeError)
        assert "the result of 'f'" in str(error)
        assert "['model'][1]['lock']" in str(error)

    def test_the_part_at_fault_is_found_in_attributes_and_closures(self):
        lock = threading.Lock()

        class Model:
            def __init__(self):
                self.inner = {"guard": lock}

        with pytest.raises(SerializationError) as caught:
            serialize([Model()])
        assert caught.value.path == "[0].inner['guard']"
        with pytest.raises(SerializationError) as caught:
            serialize(lambda: lock)
        assert caught.value.path == "closure variable 'lock'"

    def test_a_value_nested_too_deeply_says_so(self):
        value: list = []
        for _ in range(100_000):
            value = [value]
        try:
            with pytest.raises(SerializationError, match="nested too deeply"):
                serialize(value)
        finally:
            while value:  # taken apart step by step
                value = value.pop()

    def test_a_value_that_raises_while_it_is_pickled_is_blamed(self):
        class Bad:
            def __reduce__(self):
                raise ZeroDivisionError("on purpose")

        with pytest.raises(SerializationError, match="ZeroDivisionError: on purpose") as caught:
            serialize(Bad())
        assert caught.value.type_name.endswith("Bad")

    def test_a_failed_pickling_leaves_no_collection_open(self):
        with pytest.raises(SerializationError):
            serialize(threading.Lock())
        assert _kernel.collect(serialize, [object])[1] is None

    def test_a_value_that_raises_while_it_is_unpickled_is_an_error_of_ours(self):
        with pytest.raises(SerializationError, match="ZeroDivisionError") as caught:
            deserialize(PICKLE, serialize(Explosive())[0], "the argument 'x' of 'f'")
        assert caught.value.operation == "unpickle"
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert "the argument 'x' of 'f'" in str(caught.value)

    def test_a_missing_module_is_an_error_of_ours(self):
        with pytest.raises(SerializationError, match="No module named 'nowhere_to_be_found'"):
            deserialize(PICKLE, b"cnowhere_to_be_found\nthing\n.")

    def test_data_cut_short_is_an_error_of_ours(self):
        data, fmt, _ = serialize([np.arange(100), np.arange(5)])
        for end in range(len(data)):
            with pytest.raises(SerializationError):
                deserialize(fmt, data[:end])

    def test_an_unknown_format_is_refused(self):
        with pytest.raises(SerializationError, match="format 77"):
            deserialize(77, b"")


def explode():
    raise ZeroDivisionError


class Explosive:
    def __reduce__(self):
        return explode, ()


def test_values_can_be_serialized_while_a_value_is_serialized():
    class Nesting:
        def __reduce__(self):
            data, fmt, _ = serialize([np.arange(3), Point(1, 2)])
            return deserialize, (fmt, data)

    array, point = round_trip([Nesting()])[0]
    assert array.tolist() == [0, 1, 2]
    assert point == Point(1, 2)


class TestReuseOfPicklers:
    """Picklers are used again; nothing of one value may show in the next."""

    def test_a_function_pickled_twice_has_the_globals_of_each_time(self):
        namespace = {"offset": 1}
        exec("def f(): return offset", namespace)
        first, _, _ = serialize(namespace["f"])
        namespace["offset"] = 2
        second, fmt, _ = serialize(namespace["f"])
        assert deserialize(fmt, first)() == 1
        assert deserialize(fmt, second)() == 2

    def test_values_after_large_ones_and_after_failures_are_whole(self):
        for value in ([object], {1: {2}}, list(range(10_000)), [np.zeros(5)], [np.zeros(10_000)], {3}):
            assert repr(round_trip(value)) == repr(value)
            with pytest.raises(SerializationError):
                serialize({"a": np.zeros(5), "b": threading.Lock()})
            assert round_trip({1, 2}) == {1, 2}

    def test_pickled_values_are_let_go(self):
        class Thing:
            pass

        thing = Thing()
        gone = weakref.ref(thing)
        serialize({"k": thing})
        del thing
        gc.collect()
        assert gone() is None

    def test_threads_do_not_disturb_each_other(self):
        problems = []

        def work(seed):
            for n in range(300):
                value = {"seed": seed, "n": n, "array": np.full(50, seed), "set": {seed, n}}
                again = round_trip(value)
                if again["array"].tolist() != [seed] * 50 or again["set"] != {seed, n} or again["n"] != n:
                    problems.append((seed, n, again))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []


def test_an_array_needs_no_cloudpickle_and_gives_the_same_bytes():
    arrays = (
        "np.arange(5000.0), np.arange(6).reshape(2, 3).T, np.array(['a', 'b']), np.array('2020', 'M8[Y]')"
    )
    source = f"""
import sys
import numpy as np
from ray.serialization.values import serialize

def flat(value):
    data, fmt, nested = serialize(value)
    return (data if type(data) is bytes else data.to_bytes()), fmt, nested

arrays = [{arrays}]
alone = [flat(array) for array in arrays]
assert "cloudpickle" not in sys.modules
serialize([arrays])  # brings it
assert "cloudpickle" in sys.modules
assert [flat(array) for array in arrays] == alone
"""
    subprocess.run([sys.executable, "-c", source], check=True, timeout=60)
