import subprocess
import sys
import threading

import pytest

from ray import _kernel
from ray.errors import SerializationError
from ray.serialization.functions import CLASS, FUNCTION, describe, pickle_function, unpickle_function

LOCK = threading.Lock()


def plain(x, y=2):
    return x + y


def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def uses_lock():
    return LOCK


class Counter:
    def __init__(self, start):
        self.value = start

    def add(self, n):
        self.value += n
        return self.value


def test_functions_come_back():
    offset = 10
    assert unpickle_function(pickle_function(plain))(1) == 3
    assert unpickle_function(pickle_function(fibonacci))(10) == 55
    assert unpickle_function(pickle_function(lambda x: x + offset))(1) == 11


def test_classes_come_back():
    kind = unpickle_function(memoryview(pickle_function(Counter)))
    assert kind(3).add(4) == 7


def test_the_description_is_read_without_running_anything():
    found = describe(pickle_function(plain))
    assert (found.kind, found.module, found.name) == (FUNCTION, __name__, "plain")
    assert found.full_name == f"{__name__}.plain"
    found = describe(memoryview(pickle_function(Counter)))
    assert (found.kind, found.name) == (CLASS, "Counter")
    blob = bytearray(pickle_function(plain))
    blob[-20:] = b"\xff" * 20
    assert describe(blob).name == "plain"


def test_odd_names_are_described():
    def function():
        return 1

    function.__qualname__ = "größe\udcff" * 500
    function.__module__ = None
    found = describe(pickle_function(function))
    assert found.module == ""
    assert found.full_name.startswith("größe?")
    assert len(found.name.encode()) <= 1030


@pytest.mark.parametrize("blob", [b"", b"RFN1", b"\x80\x05N." + bytes(30)])
def test_other_bytes_are_refused(blob):
    for read in (describe, unpickle_function):
        with pytest.raises(SerializationError, match="not a pickled function"):
            read(blob)


def test_the_variable_at_fault_is_named():
    lock = threading.Lock()

    def closes_over():
        return lock

    def deep():
        return [closes_over() for _ in range(3)]

    def defaulted(x=lock):
        return x

    class Holder:
        guard = LOCK

    namespace = {"LOCK": LOCK, "__name__": "somewhere"}
    exec("def uses_global(): return [LOCK for _ in range(2)]", namespace)
    for function, path in (
        (closes_over, "closure variable 'lock'"),
        (deep, "closure variable 'closes_over' closure variable 'lock'"),
        (defaulted, "default 0"),
        (Holder, "guard"),
        (namespace["uses_global"], "global 'LOCK'"),
    ):
        with pytest.raises(SerializationError) as caught:
            pickle_function(function)
        assert caught.value.path == path
        assert caught.value.type_name == "_thread.lock"
        assert function.__qualname__ in str(caught.value)
        assert isinstance(caught.value.__cause__, TypeError)


def test_a_function_that_cannot_be_unpickled_is_named():
    blob = pickle_function(plain)
    broken = blob[: blob.index(b"\x80\x05")] + b"cnowhere_to_be_found\nthing\n."
    with pytest.raises(SerializationError, match=r"function '.*plain' .*nowhere_to_be_found") as caught:
        unpickle_function(broken)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_function_of_main_reaches_another_process(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        "import sys\n"
        "from ray.serialization.functions import pickle_function\n"
        "class Base:\n"
        "    def value(self): return scale\n"
        "scale = 5\n"
        "def f(n): return Base().value() * n\n"
        "open(sys.argv[1], 'wb').write(pickle_function(f))\n"
    )
    out = tmp_path / "function"
    subprocess.run([sys.executable, script, out], check=True, timeout=60)
    blob = out.read_bytes()
    assert describe(blob).full_name == "__main__.f"
    assert unpickle_function(blob)(3) == 15


def test_nothing_captured_is_nothing_collected():
    assert _kernel.collect(pickle_function, plain)[1] is None
