"""The same program in each mode: SCRIPT_MODE, SILENT_MODE, and PYTHON_MODE in the caller's process."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ray
from ray import errors
from tests.api.programs import Programs

Init = Callable[..., dict[str, Any]]

PROGRAM = """
    import numpy as np
    import ray

    ray.init(num_cpus=2, num_gpus=1, driver_mode=ray.{mode})

    @ray.remote
    def add(x, y=1):
        return x + y

    @ray.remote(num_return_vals=2)
    def two(box):
        box.append(1)
        return len(box), ray.get(box[0])

    @ray.remote
    def fails():
        raise ZeroDivisionError("on purpose")

    @ray.remote
    def recursive(n):
        return n + ray.get(recursive.remote(n - 1)) if n else 0

    @ray.remote
    class Counter:
        def __init__(self, start):
            self.value = start

        def add(self, by):
            self.value += by
            return self.value

    one = add.remote(0)
    print(ray.get([one, add.remote(one, y=one)]))
    mine = [ray.put("inner")]
    print(ray.get(two.remote(mine)), len(mine))
    print(ray.get(recursive.remote(5)))
    print(len(ray.wait([add.remote(number) for number in range(4)], num_returns=4, timeout=20000)[0]))
    array = ray.get(ray.put(np.arange(5)))
    try:
        array[0] = 1
    except ValueError:
        print("read-only")
    counter = Counter.remote(10)
    print(ray.get([counter.add.remote(1), counter.add.remote(one)]))
    for failed in (fails.remote(), add.remote(fails.remote())):
        try:
            ray.get(failed)
        except ZeroDivisionError as error:
            print("raised", isinstance(error, ray.errors.RayTaskError))
    print(ray.wait([]), ray.get([]), len(ray.error_info()))
    ray.shutdown()
    """

PRINTED = """\
[1, 2]
[2, 'inner'] 1
15
4
read-only
[11, 12]
raised True
raised True
([], []) [] 2
"""


@pytest.mark.statement("init-14", "init-15", "more-modes-01", "more-modes-02", "errors-03")
@pytest.mark.parametrize("mode", ["SCRIPT_MODE", "SILENT_MODE", "PYTHON_MODE"])
def test_the_same_program_in_every_mode(programs: Programs, mode: str) -> None:
    done = programs.run(PROGRAM.format(mode=mode))
    assert done.out == PRINTED
    assert ("on purpose" in done.err) == (mode != "SILENT_MODE")
    if mode == "SILENT_MODE":
        assert done.err == ""


@pytest.mark.statement("more-modes-01")
def test_python_mode_is_the_callers_process(init: Init) -> None:
    """At once, and nothing is started."""
    import psutil

    before = {child.pid for child in psutil.Process().children(recursive=True)}
    init(driver_mode=ray.PYTHON_MODE)
    seen: list[int] = []

    @ray.remote
    def here() -> int:
        seen.append(os.getpid())
        return os.getpid()

    object_id = here.remote()
    assert isinstance(object_id, ray.ObjectID)
    assert ray.get(object_id) == os.getpid()
    assert {child.pid for child in psutil.Process().children(recursive=True)} == before


@pytest.mark.statement("more-modes-01")
def test_python_mode_copies_arguments_and_results(init: Init) -> None:
    init(driver_mode=ray.PYTHON_MODE)

    @ray.remote
    def changes(words: list[str], array: Any) -> list[str]:
        words.append("changed")
        assert not array.flags.writeable
        return words

    mine = ["mine"]
    result = changes.remote(mine, np.zeros(3))
    assert mine == ["mine"]
    ray.get(result).append("later")
    assert ray.get(result) == ["mine", "changed"]


@pytest.mark.statement("more-modes-01", "init-26")
def test_python_mode_joins_nothing(init: Init) -> None:
    with pytest.raises(errors.InitError, match="PYTHON_MODE"):
        init(driver_mode=ray.PYTHON_MODE, redis_address="127.0.0.1:6379")
