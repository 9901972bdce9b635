"""Exceptions, values and deaths that are as nasty as can be: the driver of `test_nasty_values`.

Each is thrown at the session in every way in which a value can travel.  What comes back must be the value,
or an error of the package that names what it was about and is no longer than a failure may be.
`nasty.py NAME...` runs the named ones only.
"""

import collections
import ctypes
import functools
import gc
import io
import os
import random
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import ray
from ray.errors import RayError
from tests.chaos import inside

LONGEST_BYTES = 64 << 10
LONGEST_S = 20.0  # for one of them in one way, on a loaded machine
STORE_BYTES = 64 << 20
HELD_IDS = 20
Make = Callable[[], Any]
exceptions: dict[str, Make] = {}  # raised
values: dict[str, Make] = {}  # returned, given, put, kept
deaths: dict[str, Make] = {}  # run


def exception(make: Make) -> Make:
    exceptions[make.__name__] = make
    return make


def value(make: Make) -> Make:
    values[make.__name__] = make
    return make


def death(make: Make) -> Make:
    deaths[make.__name__] = make
    return make


# --- exceptions ------------------------------------------------------------------------------------


@exception
def huge_text() -> Exception:
    return ValueError("x" * (20 << 20))


@exception
def many_arguments() -> Exception:
    return ValueError(*range(1_000_000))


@exception
def surrogates_and_nulls() -> Exception:
    return ValueError("\udcff\0\ud800 \x1b[2J \N{PILE OF POO}" * 100)


@exception
def integer_too_long_for_text() -> Exception:
    return ValueError(10**10_000)


class RaisingText(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError("no text")

    __repr__ = __str__


@exception
def raising_text() -> Exception:
    return RaisingText()


class TextOfOtherType(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # noqa: PLE0307

    def __repr__(self) -> str:
        return b"bytes"  # type: ignore[return-value]


@exception
def text_of_another_type() -> Exception:
    return TextOfOtherType()


class SlowText(Exception):
    def __str__(self) -> str:
        time.sleep(0.2)
        return "slow"


@exception
def slow_text() -> Exception:
    return SlowText()


class ExitingText(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


@exception
def exiting_text() -> Exception:
    return ExitingText()


class InterruptingText(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


@exception
def interrupting_text() -> Exception:
    return InterruptingText()


class EndlessText(Exception):
    def __str__(self) -> str:
        return str(self)


@exception
def endless_text() -> Exception:
    return EndlessText()


class PrintsWhileDying(Exception):
    def __str__(self) -> str:
        print("printing" * 1000)
        return "printed"

    def __del__(self) -> None:
        print("dying" * 1000, file=sys.stderr)


@exception
def prints_while_dying() -> Exception:
    return PrintsWhileDying()


class NeedsArguments(Exception):
    def __init__(self, one: int, two: int, *, three: int) -> None:
        super().__init__(f"{one} {two} {three}")
        self.three = three


@exception
def required_arguments() -> Exception:
    return NeedsArguments(1, 2, three=3)


class CantPickle(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("will not be pickled")


@exception
def can_not_be_pickled() -> Exception:
    return CantPickle("it")


class CantUnpickle(Exception):
    def __reduce__(self) -> Any:
        return _refuse, ("at unpickling",)


def _refuse(why: str) -> None:
    raise RuntimeError(why)


@exception
def can_not_be_unpickled() -> Exception:
    return CantUnpickle("it")


class ElsewhereUnpicklable(Exception):
    def __setstate__(self, state: Any) -> None:
        if os.getpid() != state:
            raise RuntimeError("not in this process")

    def __reduce__(self) -> Any:
        return type(self), (), os.getpid()


@exception
def can_be_unpickled_where_it_was_pickled() -> Exception:
    return ElsewhereUnpicklable()


class LyingReduce(Exception):
    def __reduce__(self) -> Any:
        return str, ("not an exception at all",)


@exception
def becomes_a_string() -> Exception:
    return LyingReduce()


class ReduceOfWrongShape(Exception):
    def __reduce__(self) -> Any:
        return 1, 2, 3, 4, 5, 6, 7


@exception
def reduce_of_a_wrong_shape() -> Exception:
    return ReduceOfWrongShape()


class RaisingSetattr(Exception):
    def __setattr__(self, name: str, to: Any) -> None:
        raise RuntimeError(f"{name} is not to be set")


@exception
def attributes_can_not_be_set() -> Exception:
    return RaisingSetattr("it")


class RaisingGetattribute(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"{name} is not to be had")


@exception
def attributes_can_not_be_had() -> Exception:
    return RaisingGetattribute("it")


class RaisingClass(Exception):
    @property
    def __class__(self) -> Any:
        raise RuntimeError("has no class")

    @__class__.setter
    def __class__(self, to: Any) -> None:
        raise RuntimeError("has no class")


@exception
def class_can_not_be_had() -> Exception:
    return RaisingClass("it")


class LyingClass(Exception):
    __class__ = ray.errors.RayTaskError  # type: ignore[assignment]


@exception
def claims_to_be_a_task_error() -> Exception:
    return LyingClass("it")


class RaisingMeta(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__module__", "__qualname__", "__name__"):
            raise RuntimeError(f"the class has no {name}")
        return super().__getattribute__(name)


class OfRaisingMeta(Exception, metaclass=RaisingMeta):
    pass


@exception
def class_without_a_name() -> Exception:
    return OfRaisingMeta("it")


class RaisingComparison(Exception):
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")

    __hash__ = __eq__  # type: ignore[assignment]


@exception
def can_not_be_compared() -> Exception:
    return RaisingComparison(RaisingComparison())


class RaisingArgs(Exception):
    @property
    def args(self) -> Any:
        raise RuntimeError("has no args")

    @args.setter
    def args(self, to: Any) -> None:
        raise RuntimeError("takes no args")


@exception
def args_can_not_be_had() -> Exception:
    return RaisingArgs("it")


class WrongCause(Exception):
    __cause__ = 5  # type: ignore[assignment]
    __context__ = "context"  # type: ignore[assignment]
    __notes__ = 7  # type: ignore[assignment]


@exception
def causes_of_another_type() -> Exception:
    return WrongCause("it")


@exception
def cycle_of_causes() -> Exception:
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    first.__context__ = first
    return first


@exception
def long_chain_of_causes() -> Exception:
    error = ValueError("the first")
    for number in range(20_000):
        later = ValueError(number)
        later.__cause__ = error
        error = later
    return error


@exception
def group_of_groups() -> Exception:
    error: Exception = ValueError("innermost")
    for number in range(3_000):
        error = ExceptionGroup(f"group {number}", [error])
    return error


@exception
def wide_group() -> Exception:
    return ExceptionGroup("wide", [ValueError("x" * 100) for _ in range(10_000)])


@exception
def contains_itself() -> Exception:
    error = ValueError()
    error.args = (error, [error])
    error.me = error  # type: ignore[attr-defined]
    return error


@exception
def deep_traceback() -> Exception:
    def dive(depth: int) -> Exception:
        if depth:
            return dive(depth - 1)
        raise ValueError("at the bottom")

    try:
        return dive(900)
    except ValueError as error:
        return error


@exception
def holds_ids() -> Exception:
    error = ValueError("with ids")
    error.ids = [ray.put(bytes(10_000)) for _ in range(HELD_IDS)]  # type: ignore[attr-defined]
    return error


@exception
def holds_a_lock() -> Exception:
    return ValueError(threading.Lock(), sys._getframe())


@exception
def local_class() -> Exception:
    class Local(Exception):
        pass

    return Local("it")


@exception
def deleted_class() -> Exception:
    kind = type("Deleted", (Exception,), {"__module__": "gone.for.good", "__qualname__": "No.Such.Class"})
    return kind("it")  # type: ignore[no-any-return]


@exception
def system_exit() -> BaseException:
    return SystemExit("x" * 1_000_000)


@exception
def keyboard_interrupt() -> BaseException:
    return KeyboardInterrupt()


@exception
def generator_exit() -> BaseException:
    return GeneratorExit()


@exception
def stop_iteration() -> BaseException:
    return StopIteration(5)


class OwnBase(BaseException):
    pass


@exception
def own_base_exception() -> BaseException:
    return OwnBase("it")


@exception
def memory_error() -> BaseException:
    return MemoryError("of the user's own")


class GetsWhenPickled(Exception):
    def __reduce__(self) -> Any:
        return GetsWhenPickled, (ray.get(ray.put("inside")),)


@exception
def calls_ray_when_pickled() -> Exception:
    return GetsWhenPickled("it")


class RaisesWhenDeleted(Exception):
    def __del__(self) -> None:
        raise RuntimeError("while dying")


@exception
def raises_when_deleted() -> Exception:
    return RaisesWhenDeleted("it")


# --- values ----------------------------------------------------------------------------------------


@value
def recursive_list() -> Any:
    made: list[Any] = []
    made.append(made)
    return made


@value
def nested_deeply() -> Any:
    made: list[Any] = []
    for _ in range(200_000):
        made = [made]
    return made


@value
def larger_than_the_store() -> Any:
    return np.zeros(2 * STORE_BYTES, dtype=np.uint8)


@value
def generator() -> Any:
    return (each for each in range(3))


@value
def lock() -> Any:
    return {"deep": [threading.Lock()]}


@value
def open_file() -> Any:
    return tempfile.TemporaryFile()


@value
def open_socket() -> Any:
    return socket.socket()


@value
def module() -> Any:
    return os


@value
def weak_reference() -> Any:
    return weakref.ref(io.StringIO)


@value
def frame() -> Any:
    return sys._getframe()


@value
def thread() -> Any:
    return threading.Thread()


@value
def pointer() -> Any:
    return ctypes.pointer(ctypes.c_int(5))


@value
def memory_view() -> Any:
    return memoryview(bytearray(100))


@value
def mapping_proxy() -> Any:
    return types.MappingProxyType({1: 2})


class Refuses:
    def __reduce__(self) -> Any:
        raise RuntimeError("x" * (10 << 20))


@value
def refuses_at_length() -> Any:
    return [Refuses()]


class Comes:
    """Pickles well, and fails when it is unpickled."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        return _raise, (self.kind,)


def _raise(kind: type[BaseException]) -> None:
    raise kind("y" * 100_000)


@value
def exits_at_unpickling() -> Any:
    return Comes(SystemExit)


@value
def raises_at_unpickling() -> Any:
    return Comes(ValueError)


class Unloved:
    """Whatever is done to it, it raises."""

    def _raise(self, *_: Any) -> Any:
        raise RuntimeError("leave me alone")

    __eq__ = __bool__ = __hash__ = __len__ = __iter__ = __str__ = __repr__ = __contains__ = _raise  # type: ignore[assignment]
    __format__ = __sizeof__ = __index__ = __enter__ = __call__ = _raise


@value
def raises_at_everything() -> Any:
    return Unloved()


class RaisingAttributes:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("no attributes")


@value
def attributes_of_a_value_can_not_be_had() -> Any:
    return RaisingAttributes()


class BadDel:
    def __del__(self) -> None:
        raise RuntimeError("while dying")


@value
def value_raises_when_deleted() -> Any:
    return BadDel()


class CallsRay:
    def __getstate__(self) -> Any:
        ids = [ray.put(bytes(10_000)) for _ in range(3)]
        return {"ids": ids, "got": len(ray.get(ids))}


@value
def calls_ray_in_getstate() -> Any:
    return CallsRay()


class BadState:
    def __getstate__(self) -> Any:
        return 5

    def __setstate__(self, state: Any) -> None:
        raise RuntimeError(f"what shall I do with {state}")


@value
def state_can_not_be_set() -> Any:
    return BadState()


class ExitsWhenPickled:
    def __reduce__(self) -> Any:
        raise SystemExit(5)


@value
def exits_when_pickled() -> Any:
    return ExitsWhenPickled()


class LyingLength(list[Any]):
    def __len__(self) -> int:
        return 1 << 40


@value
def lies_about_its_length() -> Any:
    return LyingLength([1, 2])


class LyingString(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = str.__hash__

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError("not to be encoded")


@value
def lying_string() -> Any:
    return LyingString("text")


@value
def object_array_with_itself() -> Any:
    made = np.empty(2, dtype=object)
    made[0], made[1] = made, threading.Lock()
    return made


@value
def function_with_a_lock() -> Any:
    held = threading.Lock()
    return lambda: held


@value
def partial_of_a_generator() -> Any:
    return functools.partial(print, (each for each in "abc"))


@value
def ids_in_ids() -> Any:
    return [ray.put([ray.put([ray.put(bytes(10_000))])])] * 100


@value
def the_exception_itself() -> Any:
    return CantPickle(threading.Lock())


@value
def dictionary_of_nan() -> Any:
    return collections.OrderedDict((float("nan"), number) for number in range(1000))


# --- deaths ----------------------------------------------------------------------------------------


@death
def leaves_at_once() -> None:
    os._exit(7)


@death
def leaves_as_if_well() -> None:
    os._exit(0)


@death
def aborts() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.abort()


@death
def reads_address_zero() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


@death
def kills_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@death
def terminates_itself() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@death
def pickles_into_death() -> Any:
    class Deadly:
        def __reduce__(self) -> str:
            os._exit(9)

    return Deadly()


@death
def fails_into_death() -> Any:
    class Deadly(Exception):
        def __str__(self) -> str:  # noqa: PLE0307
            os._exit(9)

    raise Deadly


# --- the ways --------------------------------------------------------------------------------------


@ray.remote(max_retries=0)
def raising(make: Make) -> Any:
    raise make()


@ray.remote(max_retries=0)
def returning(make: Make) -> Any:
    return make()


@ray.remote(max_retries=0)
def taking(given: Any, *more: Any) -> str:
    return "taken"


@ray.remote
def collected() -> int:
    time.sleep(0.01)  # so that all workers have their turn
    return gc.collect()


@ray.remote(num_return_vals=2, max_retries=0)
def returning_two(make: Make) -> Any:
    return 1, make()


@ray.remote
class Host:
    def __init__(self, *given: Any) -> None:
        self.kept: Any = None

    def raises(self, make: Make) -> Any:
        raise make()

    def returns(self, make: Make) -> Any:
        return make()

    def takes(self, given: Any) -> str:
        return "taken"

    def lives(self) -> str:
        return "lives"

    def collects(self) -> int:
        return gc.collect()


@ray.remote(checkpoint_interval=1)
class Saved:
    def keeps(self, make: Make) -> str:
        self.kept = make()
        return "kept"

    def lives(self) -> str:
        return "lives"


@ray.remote
class Unborn:
    def __init__(self, make: Make) -> None:
        raise make()

    def lives(self) -> str:
        return "lives"


def outcome(name: str, way: str, act: Callable[[], Any], may_be_value: bool = True) -> str:
    """What came of it: a value, or the type of a readable error; anything else fails the attack."""
    began = time.monotonic()
    try:
        act()
        assert may_be_value, f"{name}, {way}: no error"
        found = "value"
    except RayError as error:
        text = str(error)
        size = len(text.encode("utf-8", "surrogatepass"))
        assert 0 < size <= LONGEST_BYTES, f"{name}, {way}: {size} bytes"
        shown = len(repr(error))
        assert shown <= LONGEST_BYTES, f"{name}, {way}: {shown} characters"
        found = type(error).__name__
    took = time.monotonic() - began
    assert took < LONGEST_S, f"{name}, {way}: {took} s"
    return found


def ways_of_exception(name: str, make: Make, host: Any) -> Iterator[str]:
    yield outcome(name, "raised", lambda: ray.get(raising.remote(make)), may_be_value=False)
    yield outcome(name, "argument", lambda: ray.get(taking.remote(raising.remote(make))), may_be_value=False)
    yield outcome(name, "method", lambda: ray.get(host.raises.remote(make)), may_be_value=False)
    yield outcome(
        name, "constructor", lambda: ray.get(Unborn.remote(make).lives.remote()), may_be_value=False
    )
    yield outcome(name, "returned", lambda: ray.get(returning.remote(make)))
    yield outcome(name, "put", lambda: ray.get(ray.put(make())))


def ways_of_value(name: str, make: Make, host: Any) -> Iterator[str]:
    yield outcome(name, "returned", lambda: ray.get(returning.remote(make)))
    yield outcome(name, "returned as second", lambda: ray.get(returning_two.remote(make)))
    yield outcome(name, "argument of a task", lambda: ray.get(taking.remote(returning.remote(make))))
    yield outcome(name, "result of a method", lambda: ray.get(host.returns.remote(make)))
    yield outcome(name, "put", lambda: ray.get(ray.put(make())))
    yield outcome(name, "given", lambda: ray.get(taking.remote(make(), [make()])))
    yield outcome(name, "given to a method", lambda: ray.get(host.takes.remote(make())))
    yield outcome(name, "given to a constructor", lambda: ray.get(Host.remote(make()).lives.remote()))
    saved = Saved.remote()
    assert ray.get(saved.keeps.remote(make)) == "kept"
    assert ray.get(saved.lives.remote()) == "lives"
    yield "value"


def ways_of_death(name: str, make: Make, host: Any) -> Iterator[str]:
    yield outcome(name, "task", lambda: ray.get(returning.remote(make)), may_be_value=False)
    own = Host.remote()
    yield outcome(name, "method", lambda: ray.get(own.returns.remote(make)), may_be_value=False)
    yield outcome(name, "afterwards", lambda: ray.get(own.lives.remote()))


def main() -> None:
    chosen = sys.argv[1:]
    ray.init(
        num_cpus=2,
        driver_mode=ray.SILENT_MODE,
        object_store_memory=STORE_BYTES,
        config={"spill_fraction": 0, "store_full_wait_ms": 200, "restart_limit": 100},
    )
    host = Host.remote()
    warm_up(host)
    baseline = inside.Baseline()
    reported = inside.arena().stats()["journal_last"]
    everything = [
        *((name, make, ways_of_exception) for name, make in exceptions.items()),
        *((name, make, ways_of_value) for name, make in values.items()),
        *((name, make, ways_of_death) for name, make in deaths.items()),
    ]
    random.shuffle(everything)
    count = 0
    for name, make, ways in everything:
        if chosen and name not in chosen:
            continue
        began = time.monotonic()
        found = list(ways(name, make, host))
        count += len(found)
        inside.say(f"{name} ({time.monotonic() - began:.1f} s): {' '.join(found)}")
        assert ray.get([host.lives.remote(), returning.remote(int)]) == ["lives", 0], name
    # What nobody can reach any more, but a worker's collector has not seen yet, may hold ids.
    ray.get([host.collects.remote(), *(collected.remote() for _ in range(20))])
    # The list of errors keeps what was reported: each one an object, with its text and the ids in it.
    reported = inside.arena().stats()["journal_last"] - reported
    baseline.check(
        allow={
            "objects": reported + 4 * HELD_IDS,
            "heap_blocks": 2 * (reported + 4 * HELD_IDS),  # and what is free between them
            "heap_used_bytes": 2 * LONGEST_BYTES * reported,
            "links": 100 * reported,
        }
    )
    inside.figure("nasty things", len(chosen or everything), "kinds", at_least=0 if chosen else 40)
    inside.figure("nasty things in all their ways", count, "times")
    inside.done()


def warm_up(host: Any) -> None:
    """Exports every function and class that is used, so that they are there before the counting."""
    for asked in (raising.remote(int), host.raises.remote(int), Unborn.remote(int).lives.remote()):
        outcome("warm-up", "raised", functools.partial(ray.get, asked), may_be_value=False)
    ray.get([returning.remote(int), taking.remote(1), host.returns.remote(int), host.takes.remote(1)])
    ray.get([*returning_two.remote(int), Host.remote(1).lives.remote(), Saved.remote().lives.remote()])
    ray.get([Saved.remote().keeps.remote(int), collected.remote()])


if __name__ == "__main__":
    main()
