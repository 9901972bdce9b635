import copy
import pickle
import traceback

import pytest

from ray.errors import RayError, RayTaskError
from ray.serialization.dual import raisable


def task_error(cause):
    return raisable(RayTaskError("mod.f", "the text", type(cause).__name__, cause=cause))


def test_both_types_catch_it():
    error = task_error(KeyError("k"))
    for kind in (KeyError, LookupError, RayTaskError, RayError, Exception):
        with pytest.raises(kind) as caught:
            raise error
        assert caught.value is error


def test_there_is_one_type_for_each_type():
    assert type(task_error(KeyError(1))) is type(task_error(KeyError(2)))
    assert type(task_error(KeyError(1))) is not type(task_error(ValueError(2)))


def test_its_name_in_a_traceback_names_both():
    text = "".join(traceback.format_exception_only(task_error(KeyError("k"))))
    assert text == "ray.errors.RayTaskError(KeyError): 'mod.f' failed.\nthe text\n"


def test_it_survives_pickling_and_copying():
    error = task_error(FileNotFoundError(2, "gone", "/x"))
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.args == error.args
        assert (again.errno, again.filename) == (2, "/x")
        assert again.cause.filename == "/x"


def test_no_constructor_of_the_users_is_run():
    calls = []

    class Noisy(Exception):
        def __new__(cls, *args):
            calls.append("new")
            return super().__new__(cls, *args)

        def __init__(self, *args):
            calls.append("init")
            super().__init__(*args)

    cause = Noisy(1)
    calls.clear()
    assert isinstance(task_error(cause), Noisy)
    assert calls == []


def test_an_exception_without_a_type_of_its_own_needs_no_mixing():
    error = task_error(Exception("x"))
    assert type(error) is RayTaskError
    assert error.args == ("x",)


def test_the_cause_of_another_layout_is_mixed_in():
    for cause in (
        ImportError("x", name="m"),
        UnicodeEncodeError("ascii", "ü", 0, 1, "why"),
        MemoryError("m"),
    ):
        error = task_error(cause)
        assert isinstance(error, type(cause))
        assert error.args == cause.args
    assert task_error(ImportError("x", name="m")).name == "m"
