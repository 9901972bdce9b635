"""How workers run tasks: limits of calls, output, random numbers, threads, GPUs, memory."""

import os
import sys
import time
from typing import Any

import numpy as np
import pytest

import ray
from ray.core import session_state
from ray.worker import gpu
from ray.worker.blas import VARIABLES

pytestmark = pytest.mark.usefixtures("session")


def test_a_worker_leaves_after_max_calls(tmp_path: Any) -> None:
    log = tmp_path / "log"

    @ray.remote(max_calls=3)
    def f(fail: bool) -> None:
        with open(log, "a") as file:
            file.write(f"{os.getpid()}\n")
        if fail:
            raise ValueError

    ids = [f.remote(n % 4 == 0) for n in range(20)]
    assert ray.wait(ids, num_returns=20, timeout=30_000)[1] == []
    pids = log.read_text().splitlines()
    assert len(pids) == 20  # leaving is no crash: nothing ran twice
    assert max(pids.count(pid) for pid in pids) == 3
    assert len(set(pids)) >= 7


def test_max_calls_counts_each_function_by_itself() -> None:
    @ray.remote(max_calls=1000)
    def f() -> int:
        return os.getpid()

    @ray.remote
    def g() -> int:
        return os.getpid()

    first = ray.get(f.remote())
    assert first in {ray.get(each) for each in [g.remote() for _ in range(200)]}


def test_random_numbers_differ_from_worker_to_worker() -> None:
    @ray.remote
    def draw() -> Any:
        import random

        time.sleep(0.02)
        return os.getpid(), random.random(), float(np.random.rand())

    drawn = ray.get([draw.remote() for _ in range(40)])
    assert len({pid for pid, _, _ in drawn}) >= 2
    assert len({value for _, value, _ in drawn}) == 40
    assert len({value for _, _, value in drawn}) == 40


@pytest.mark.skipif(any(name in os.environ for name in VARIABLES), reason="the user set a number of threads")
def test_threads_of_numerical_libraries_follow_the_cpus_of_the_task() -> None:
    def threads() -> tuple[set[int], str]:
        from threadpoolctl import threadpool_info

        np.ones((64, 64)) @ np.ones((64, 64))
        return {pool["num_threads"] for pool in threadpool_info()}, os.environ["OMP_NUM_THREADS"]

    task = ray.remote(threads)
    assert ray.get(task.remote()) == ({1}, "1")
    assert ray.get(task.options(num_cpus=2).remote()) == ({2}, "2")
    assert ray.get(task.options(num_cpus=0.5).remote()) == ({1}, "1")

    @ray.remote(num_cpus=2)
    class Actor:
        def threads(self) -> tuple[set[int], str]:
            return threads()

    assert ray.get(Actor.remote().threads.remote()) == ({2}, "2")


def test_without_gpus_the_variable_is_left_alone() -> None:
    @ray.remote
    def look() -> Any:
        return os.environ.get(gpu.VARIABLE), ray.get_gpu_ids()

    assert ray.get(look.remote()) == (os.environ.get(gpu.VARIABLE), [])
    assert ray.get_gpu_ids() == []


def test_gpu_numbers_are_mapped_through_an_earlier_setting() -> None:
    assert gpu.device_names([0, 2], []) == [0, 2]
    assert gpu.device_names([0, 2], ["4", "5", "7"]) == [4, 7]
    assert gpu.device_names([1], ["GPU-8e4f", "GPU-77aa"]) == ["GPU-77aa"]


def test_the_same_api_works_inside_tasks() -> None:
    @ray.remote
    def inside() -> Any:
        oid = ray.put({"k": 1})
        ready, rest = ray.wait([oid], timeout=0)
        return ray.get(oid), ready == [oid], rest, ray.is_initialized(), ray.worker.global_worker.mode

    assert ray.get(inside.remote()) == ({"k": 1}, True, [], True, ray.WORKER_MODE)


def test_an_idle_worker_keeps_no_arguments_and_no_results() -> None:
    arena = session_state.require("test").arena

    @ray.remote
    def size(value: Any, fail: bool) -> int:
        if fail:
            raise ValueError(value.nbytes)
        return int(value.nbytes)

    ray.get(size.remote(np.zeros(10), False))
    before = arena.stats()["heap_used_bytes"]
    for fail in (False, True):
        oid = size.remote(np.zeros(1_000_000), fail)
        ray.wait([oid])
        del oid
    deadline = time.monotonic() + 10
    while arena.stats()["heap_used_bytes"] > before + 1_000_000:
        assert time.monotonic() < deadline, arena.stats()
        [ray.put(0) for _ in range(100)]  # dropped ids are given back in batches
        ray.get([size.remote(np.zeros(10), False) for _ in range(4)])


def test_what_a_task_prints_is_seen_before_its_result(capfd: pytest.CaptureFixture[str]) -> None:
    # Workers write where the driver that started them did: only a new session has this test's files.
    before = session_state.current
    assert before is not None
    program = """
import ray, sys
ray.init(num_cpus=1)
@ray.remote
def f():
    print("to stdout, without a newline", end="")
    sys.stderr.write("to stderr")
    return 1
ray.get(f.remote())
ray.shutdown()
"""
    import subprocess

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "to stdout, without a newline"
    assert "to stderr" in done.stderr
