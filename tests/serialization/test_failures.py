import os
import struct
import subprocess
import sys
import threading
import time

import pytest

from ray import _kernel
from ray.config import LIMITS
from ray.errors import (
    ActorDiedError,
    ActorKilledError,
    RaySystemError,
    RayTaskError,
    WorkerCrashedError,
    WrongReturnCountError,
)
from ray.serialization.failures import (
    decode_failure,
    describe_failure,
    encode_failure,
    failure_text,
    forward_failure,
    with_node,
)
from ray.serialization.formats import SYSTEM_FAILURE, TASK_ERROR, is_failure
from ray.serialization.values import serialize


def raised_by(function):
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def failed(error, name="mod.f", **details):
    data, fmt = encode_failure(error, name, **details)
    assert fmt == TASK_ERROR
    assert is_failure(fmt)
    assert len(data) <= LIMITS.error_bytes
    return data


def again(error, name="mod.f", **details):
    return decode_failure(TASK_ERROR, failed(error, name, **details))


def divide(a, b):
    return a / b


def test_the_error_is_the_original_type_and_ours():
    error = again(raised_by(lambda: divide(1, 0)), node="127.0.0.1", attempt=2)
    assert isinstance(error, ZeroDivisionError)
    assert isinstance(error, RayTaskError)
    assert error.args == ("division by zero",)
    assert type(error.cause) is ZeroDivisionError
    assert error.function_name == "mod.f"
    assert error.exception_type == "ZeroDivisionError"
    assert (error.pid, error.node, error.attempt) == (os.getpid(), "127.0.0.1", 2)


def test_the_text_shows_what_the_user_wrote():
    text = str(again(raised_by(lambda: divide(1, 0))))
    assert text.startswith(f"'mod.f' failed in process {os.getpid()}.\nTraceback (most recent call last):\n")
    assert "in divide\n    return a / b" in text
    assert text.endswith("\nZeroDivisionError: division by zero")


def test_frames_of_ours_and_of_cloudpickle_are_cut():
    from ray.serialization.pickling import dumps

    class Bad:
        def __reduce__(self):
            return divide(1, 0)

    text = str(again(raised_by(lambda: dumps([Bad()]))))
    assert "in divide" in text
    assert "in __reduce__" in text
    assert "pickling.py" not in text
    assert "cloudpickle" not in text
    assert text.count("Traceback") == 1


def test_an_error_of_ours_without_frames_of_the_users_is_one_line():
    error = again(WrongReturnCountError("mod.f", 3, 2, "tuple"))
    assert isinstance(error, WrongReturnCountError)
    assert error.expected == 3
    assert "Traceback" not in str(error)
    assert "num_return_vals=3" in str(error)


def test_what_happened_within_this_package_is_not_told_twice():
    text = str(again(raised_by(lambda: serialize(threading.Lock(), "the result of 'f'"))))
    assert "direct cause" not in text
    assert "SerializationError: Could not pickle the result of 'f'" in text

    class Bad:
        def __reduce__(self):
            return divide(1, 0)

    text = str(again(raised_by(lambda: serialize(Bad()))))
    assert text.index("in divide") < text.index("direct cause") < text.index("SerializationError")


def test_chained_causes_are_shown():
    def outer():
        try:
            divide(1, 0)
        except ZeroDivisionError as error:
            raise KeyError("k") from error

    def during():
        try:
            divide(1, 0)
        except ZeroDivisionError:
            raise KeyError("k") from None

    text = str(again(raised_by(outer)))
    assert text.index("ZeroDivisionError") < text.index("direct cause") < text.index("KeyError: 'k'")
    assert "ZeroDivisionError:" not in str(again(raised_by(during)))


def test_a_long_chain_of_causes_is_cut_to_the_last_ones():
    error: Exception = ValueError("first")
    for n in range(50):
        following = ValueError(f"number {n}")
        following.__cause__ = error
        error = following
    text = str(again(error))
    assert "earlier causes are left out" in text
    assert "number 49" in text
    assert "first" not in text


def test_causes_in_a_circle_end():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert "ValueError: a" in str(again(first))


def test_notes_and_groups_are_shown_and_caught():
    error = ExceptionGroup("several", [ValueError("one"), KeyError("two")])
    error.add_note("a note")
    result = again(error)
    assert isinstance(result, ExceptionGroup)
    assert [type(part) for part in result.exceptions] == [ValueError, KeyError]
    assert "a note" in str(result)
    assert "one" in str(result)
    seen = []
    try:
        raise result
    except* KeyError as part:
        seen += part.exceptions
    except* ValueError as part:
        seen += part.exceptions
    assert sorted(map(str, seen)) == ["'two'", "one"]


class Custom(Exception):
    def __init__(self, code, detail):
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


def test_a_constructor_with_other_arguments_than_args_does_no_harm():
    result = again(Custom(3, "x"))
    assert isinstance(result, Custom)
    assert (result.code, result.detail) == (3, "x")
    assert result.args == ("3: x",)
    assert result.cause.args == ("3: x",)


class Doubling(Exception):
    """Unpickling runs its constructor on the finished message: "msg: msg: 1"."""

    def __init__(self, value):
        super().__init__(f"msg: {value}")


def test_an_exception_that_pickles_itself_wrongly_comes_back_right():
    assert again(Doubling(1)).args == ("msg: 1",)


def test_fields_of_builtin_exceptions_come_back():
    error = again(raised_by(lambda: os.stat("/nowhere/to/be/found")))
    assert isinstance(error, FileNotFoundError)
    assert (error.errno, error.filename) == (2, "/nowhere/to/be/found")
    error = again(raised_by(lambda: b"\xff".decode()))
    assert isinstance(error, UnicodeDecodeError)
    assert (error.encoding, error.start) == ("utf-8", 0)
    error = again(raised_by(lambda: compile("1 +", "file", "eval")))
    assert isinstance(error, SyntaxError)
    assert (error.filename, error.lineno) == ("file", 1)


def test_parts_that_cannot_be_pickled_are_left_out():
    error = ValueError("text", threading.Lock())
    error.lock = threading.Lock()
    error.useful = 5
    result = again(error)
    assert isinstance(result, ValueError)
    assert result.args == ("text", "<lock, left out>")
    assert result.useful == 5
    assert not hasattr(result, "lock")


def test_an_exception_of_100_mb_is_a_small_error_soon():
    error = ValueError("head " + "x" * 100_000_000 + " tail")
    error.data = bytes(100_000_000)
    start = time.monotonic()
    data = failed(error)
    assert time.monotonic() - start < 10
    result = decode_failure(TASK_ERROR, data)
    assert isinstance(result, ValueError)
    assert "head xxx" in str(result)
    assert "bytes left out" in str(result)
    assert len(str(result)) < LIMITS.error_bytes
    assert len(result.args[0]) < 5000


def test_a_deep_recursion_is_a_small_error():
    def ping(n):
        return pong(n + 1)

    def pong(n):
        return ping(n + 1)

    result = again(raised_by(lambda: ping(0)))
    assert isinstance(result, RecursionError)
    assert "maximum recursion depth" in str(result)


class Evil(Exception):
    """Raises wherever it can."""

    def __str__(self):
        raise SystemExit("str")

    __repr__ = __str__

    def __reduce_ex__(self, protocol):
        raise KeyboardInterrupt

    def __getattr__(self, name):
        raise RuntimeError(name)


class Endless(Exception):
    def __str__(self):
        return str(self)

    def __reduce__(self):
        return self.__reduce__()


class Unloadable(Exception):
    def __reduce__(self):
        return divide, (1, 0)


class Lying(Exception):
    def __reduce__(self):
        return str, ("not an exception",)


class Keyword(Exception):
    def __init__(self, *, needed):
        self.needed = needed


class Slotted(Exception):
    __slots__ = ("code",)

    def __init__(self, code):
        super().__init__("slotted")
        self.code = code


class FinalMeta(type):
    def __new__(cls, name, bases, body, **options):
        if any(isinstance(base, FinalMeta) for base in bases):
            raise TypeError("final")
        return super().__new__(cls, name, bases, body)


class Final(Exception, metaclass=FinalMeta):
    pass


class Refusing(Exception):
    def __init_subclass__(cls, **options):
        raise SystemExit("no subclasses")


class StrictAttributes(Exception):
    def __setattr__(self, name, value):
        raise AttributeError("frozen")

    def __getattribute__(self, name):
        if name == "function_name":
            raise RuntimeError
        return super().__getattribute__(name)


class Property(Exception):
    def __init__(self, value):
        super().__init__(value)
        self._value = value

    @property
    def doubled(self):
        return 2 * self._value

    def method(self):
        return self._value


@pytest.mark.parametrize(
    "error",
    [
        Evil("x"),
        Endless("x"),
        Unloadable("x"),
        Lying("x"),
        Keyword(needed=3),
        Slotted(5),
        StrictAttributes("x"),
        Property(4),
    ],
    ids=lambda error: type(error).__name__,
)
def test_odd_exceptions_keep_their_type(error):
    result = again(error)
    assert isinstance(result, RayTaskError)
    assert isinstance(result, type(error))
    assert type(error).__name__ in str(result)
    assert type(result.cause) is type(error)


def test_attributes_of_all_kinds_are_there():
    assert again(Keyword(needed=3)).needed == 3
    assert again(Slotted(5)).code == 5
    assert again(Property(4)).doubled == 8
    assert again(Property(4)).method() == 4
    with pytest.raises(AttributeError):
        again(Property(4)).nothing  # noqa: B018


@pytest.mark.parametrize(
    "kind", [Final, Refusing, StopIteration, StopAsyncIteration, SystemExit, KeyboardInterrupt]
)
def test_types_that_cannot_or_must_not_be_mixed_in_are_the_cause(kind):
    result = again(kind("x"))
    assert type(result) is RayTaskError
    assert type(result.cause) is kind
    assert kind.__name__ in str(result)
    assert result.args == ("x",)


def test_a_local_class_is_caught_in_the_same_process():
    class Local(Exception):
        pass

    assert isinstance(again(Local("x")), Local)


def test_an_exception_with_a_type_from_nowhere_is_an_error_all_the_same(tmp_path):
    (tmp_path / "only_there.py").write_text("class Special(Exception): pass\n")
    script = tmp_path / "program.py"
    script.write_text(
        "import sys, only_there\n"
        "from ray.serialization.failures import encode_failure\n"
        "open(sys.argv[1], 'wb').write(encode_failure(only_there.Special('why'), 'f')[0])\n"
    )
    out = tmp_path / "failure"
    subprocess.run([sys.executable, script, out], check=True, timeout=60)
    result = decode_failure(TASK_ERROR, out.read_bytes())
    assert type(result) is RayTaskError
    assert result.cause is None
    assert result.exception_type == "only_there.Special"
    assert "only_there.Special: why" in str(result)
    assert "could not be rebuilt here: ModuleNotFoundError" in str(result)


def test_what_a_nested_get_raised_is_passed_on_as_its_cause():
    inner = again(raised_by(lambda: divide(1, 0)), "inner")

    def user_code():
        raise inner

    outer = again(raised_by(user_code), "outer")
    assert isinstance(outer, ZeroDivisionError)
    assert type(outer.cause) is ZeroDivisionError
    assert outer.function_name == "outer"
    assert outer.exception_type == "ZeroDivisionError"
    text = str(outer)
    assert text.index("'outer' failed") < text.index("in user_code") < text.index("'inner' failed")
    assert "in divide" in text


def test_failures_of_failures_stay_small():
    error = raised_by(lambda: divide(1, 0))
    for depth in range(100):
        error = again(error, f"level {depth}")
    assert isinstance(error, ZeroDivisionError)
    assert "'level 99' failed" in str(error)
    assert str(error).endswith("ZeroDivisionError: division by zero")


class TestForwarding:
    def test_each_dependent_task_adds_its_line(self):
        data, fmt = failed(raised_by(lambda: divide(1, 0)), "first"), TASK_ERROR
        data, fmt = forward_failure(fmt, data, "second", 0)
        data, fmt = forward_failure(fmt, data, "third", "x")
        error = decode_failure(fmt, data)
        assert isinstance(error, ZeroDivisionError)
        assert error.function_name == "first"
        assert error.chain == (
            "'second' was not run, because its argument 0 failed.",
            "'third' was not run, because its argument x failed.",
        )
        assert str(error).index("'second'") < str(error).index("'third'") < str(error).index("Traceback")

    def test_a_long_chain_is_cut_in_its_middle_and_stays_small(self):
        data, fmt = failed(ValueError("x" * 1_000_000), "first"), TASK_ERROR
        for n in range(1000):
            data, fmt = forward_failure(fmt, data, f"task {n} " + "y" * 1000, 0)
            assert len(data) <= LIMITS.error_bytes
        error = decode_failure(fmt, data)
        assert isinstance(error, ValueError)
        assert len(error.chain) == LIMITS.error_chain + 1
        assert "task 0 " in error.chain[0]
        assert "task 999 " in error.chain[-1]
        assert f"... and {1000 - LIMITS.error_chain} tasks more ..." in error.chain

    def test_a_crash_is_forwarded_with_its_type(self):
        data = struct.pack("<iiiI20s", _kernel.WORKER_DIED, -9, 77, 3, b"")
        data, fmt = forward_failure(SYSTEM_FAILURE, data, "second", 0, origin="first")
        assert fmt == TASK_ERROR
        error = decode_failure(fmt, data)
        assert isinstance(error, WorkerCrashedError)
        assert (error.function_name, error.status, error.attempts) == ("first", -9, 4)
        assert "SIGKILL" in str(error)
        assert "'second' was not run" in str(error)


class TestReadingWithoutUnpickling:
    def test_the_text_is_the_errors_own(self):
        data = failed(raised_by(lambda: divide(1, 0)), "f", node="n", attempt=1)
        assert failure_text(TASK_ERROR, data) == str(decode_failure(TASK_ERROR, data))

    def test_nothing_of_the_users_is_run(self):
        data = bytearray(failed(ValueError("x")))
        tail = struct.unpack_from("<III", data)[2]
        data[-tail:] = b"\xff" * tail
        assert "ValueError: x" in failure_text(TASK_ERROR, data)
        found = describe_failure(TASK_ERROR, data)
        assert (found.function_name, found.exception_type, found.pid) == ("mod.f", "ValueError", os.getpid())
        error = decode_failure(TASK_ERROR, data)
        assert type(error) is RayTaskError
        assert "could not be rebuilt" in str(error)

    def test_text_of_any_language_and_lone_surrogates_survive(self):
        error = again(ValueError("größe 数 \udcff"), "naïve\n\udcff")
        assert "größe 数" in str(error)
        assert error.function_name.startswith("naïve ")

    def test_damaged_data_is_an_error_of_the_system(self):
        data = failed(ValueError("x"))
        damaged = [(TASK_ERROR, data[:end]) for end in (0, 5, 12, 50, len(data) - 1)]
        damaged += [
            (TASK_ERROR, b"\x05" + data[1:]),
            (SYSTEM_FAILURE, b""),
            (SYSTEM_FAILURE, data),
            (177, data),
        ]
        for fmt, damaged_data in damaged:
            error = decode_failure(fmt, damaged_data)
            assert type(error) is RaySystemError
            assert "cannot be read" in failure_text(fmt, damaged_data)
            assert describe_failure(fmt, damaged_data).exception_type == "RaySystemError"
            forwarded = decode_failure(*reversed(forward_failure(fmt, damaged_data, "g", 0, origin="f")))
            assert isinstance(forwarded, RaySystemError)


class TestSystemFailures:
    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            (_kernel.WORKER_DIED, WorkerCrashedError),
            (_kernel.ACTOR_DIED, ActorDiedError),
            (_kernel.ACTOR_KILLED, ActorKilledError),
            (99, RaySystemError),
        ],
    )
    def test_each_code_is_a_type_that_names_the_task(self, code, kind):
        data = struct.pack("<iiiI20s", code, -11, 77, 1, b"")
        error = decode_failure(SYSTEM_FAILURE, data, "mod.f")
        assert type(error) is kind
        assert "mod.f" in str(error)
        assert failure_text(SYSTEM_FAILURE, memoryview(data), "mod.f") == str(error)
        found = describe_failure(SYSTEM_FAILURE, data, "mod.f")
        assert (found.function_name, found.exception_type) == ("mod.f", kind.__name__)
        assert found.pid == getattr(error, "pid", 0)
        assert found.text == str(error)

    def test_one_from_another_node_names_it(self):
        data = struct.pack("<iiiI20s", _kernel.WORKER_DIED, -9, 77, 1, b"")
        placed = with_node(SYSTEM_FAILURE, memoryview(data), "10.0.0.7 (ab12)")
        error = decode_failure(SYSTEM_FAILURE, placed, "mod.f")
        assert (error.node, error.pid) == ("10.0.0.7 (ab12)", 77)
        assert "its worker process 77 on node 10.0.0.7 (ab12) was killed by SIGKILL" in str(error)
        assert with_node(SYSTEM_FAILURE, placed, "another") == placed
        assert describe_failure(SYSTEM_FAILURE, placed, "mod.f").node == "10.0.0.7 (ab12)"

    def test_one_that_is_about_no_process_stays_as_it_is(self):
        data = struct.pack("<iiiI20s", _kernel.OBJECT_LOST, 0, 0, 0, b"")
        assert with_node(SYSTEM_FAILURE, data, "10.0.0.7") == data
        value = failed(ValueError("x"))
        assert with_node(TASK_ERROR, value, "10.0.0.7") == value

    def test_without_a_name_it_still_reads_well(self):
        data = struct.pack("<iiiI20s", _kernel.WORKER_DIED, 1, 77, 0, b"")
        assert str(decode_failure(SYSTEM_FAILURE, data)).startswith(
            "A task did not finish: its worker process 77"
        )
