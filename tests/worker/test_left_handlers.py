"""A signal handler that a task leaves behind, and that raises when no task runs."""

import os
import signal
import time

import pytest

import ray

ALARM_S = 0.05


@ray.remote
def leave_an_alarm(number: int) -> tuple[int, int]:
    def late(*_: object) -> None:
        raise RuntimeError("too late")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, ALARM_S)
    return number, os.getpid()


def test_the_worker_and_the_result_stay(capfd: pytest.CaptureFixture[str]) -> None:
    ray.init(num_cpus=1, driver_mode=ray.SILENT_MODE)
    try:
        workers = set()
        for number in range(4):
            result = leave_an_alarm.remote(number)
            time.sleep(3 * ALARM_S)  # the alarm is meant for a worker that waits
            given, pid = ray.get(result, timeout=10_000)
            assert given == number
            workers.add(pid)
    finally:
        ray.shutdown()
    assert len(workers) == 1
    assert "RuntimeError: too late" in capfd.readouterr().err
