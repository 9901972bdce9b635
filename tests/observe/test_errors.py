"""Errors are printed once, in the background, and listed."""

import subprocess
import sys
import textwrap
import time

import pytest

import ray
from ray.core import session_state
from ray.errors import RaySystemError
from ray.observe import error_list

PATIENCE_S = 10.0


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


PROGRAM = """
    import ray, sys, time
    ray.init(num_cpus=2, driver_mode=ray.{mode})

    @ray.remote
    def fails(n):
        raise ValueError(f"error number {{n}}")

    @ray.remote(max_retries=0)
    def dies():
        import os
        os._exit(9)

    @ray.remote
    def after(x):
        return x

    for n in range(3):
        after.remote(fails.remote(n))
    dies.remote()
    deadline = time.monotonic() + 10
    while len(ray.error_info()) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    print(len(ray.error_info()), flush=True)
    time.sleep(0.5)
"""


@pytest.mark.parametrize("mode", ["SCRIPT_MODE", "SILENT_MODE"])
def test_printed_once_each_though_nobody_holds_the_ids(mode: str) -> None:
    done = run(PROGRAM.format(mode=mode))
    assert done.stdout.strip() == "4"
    times = 1 if mode == "SCRIPT_MODE" else 0
    for n in range(3):
        assert done.stderr.count(f"ValueError: error number {n}") == times
    assert done.stderr.count("'dies'") == times


def test_what_failed_last_is_printed_before_the_end() -> None:
    done = run(
        """
        import ray
        ray.init(num_cpus=1)

        @ray.remote
        def fails():
            raise ValueError("at the end")

        ray.wait([fails.remote()])
        """
    )
    assert done.stderr.count("ValueError: at the end") == 1


def test_a_local_session_prints_as_well() -> None:
    done = run(
        """
        import ray
        ray.init(driver_mode=ray.PYTHON_MODE)

        @ray.remote
        def fails():
            raise ValueError("in this process")

        fails.remote()
        assert [error["type"] for error in ray.error_info()] == ["task"]
        """
    )
    assert done.stderr.count("ValueError: in this process") == 1


@pytest.mark.usefixtures("session")
def test_listed_with_type_message_and_data() -> None:
    @ray.remote
    def fails() -> None:
        raise LookupError("nothing here")

    @ray.remote(max_retries=0)
    def dies() -> None:
        import os

        os._exit(1)

    for oid in (fails.remote(), dies.remote()):
        with pytest.raises(ray.errors.RayError):
            ray.get(oid)
    by_type = {error["type"]: error for error in ray.error_info()[-2:]}  # the two may fail in either order
    task, died = by_type["task"], by_type["worker_died"]
    assert "LookupError: nothing here" in task["message"]
    assert task["data"]["function_name"] == "fails"
    assert task["data"]["exception_type"] == "LookupError"
    assert died["data"]["function_name"] == "dies"


@pytest.mark.usefixtures("session")
def test_the_same_from_redis_and_from_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    @ray.remote
    def fails() -> None:
        raise LookupError("kept")

    ray.wait([fails.remote()])
    arena = session_state.require("test").arena
    deadline = time.monotonic() + PATIENCE_S
    while not (kept := error_list._from_redis(arena)):
        assert time.monotonic() < deadline, "the node manager copied nothing"
        time.sleep(0.01)
    assert kept == error_list._from_journal(arena, 0)[: len(kept)]
    listed = ray.error_info()

    def unreachable(*args: object) -> None:
        raise RaySystemError("Redis is being restarted")

    monkeypatch.setattr("ray.control_store.client.ControlStore.errors", unreachable)
    assert ray.error_info()[: len(listed)] == listed
