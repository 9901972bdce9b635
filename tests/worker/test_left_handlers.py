"""Signal handlers that a task leaves behind, and that raise while the worker is at its own work, or idle."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ray
from ray.errors import RayTaskError, SerializationError

ALARM_S = 0.05
STORM_S = 0.0002  # from one alarm to the next: a few for each task
PATIENCE_MS = 10_000
TASKS = 3000


class TooLateError(Exception):
    pass


def late(*_: object) -> None:
    raise TooLateError("too late")


@ray.remote
def leave_an_alarm(number: int) -> tuple[int, int]:
    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, ALARM_S)
    return number, os.getpid()


def begin_a_storm() -> None:
    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, STORM_S, STORM_S)


def end_the_storm() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)


@ray.remote
def begin() -> int:
    begin_a_storm()
    return os.getpid()


@ray.remote
def end() -> int:
    end_the_storm()
    return os.getpid()


@ray.remote
def give_back(number: int) -> int:
    return number


@ray.remote
def give_back_two(number: int) -> list[int]:
    return ray.get([give_back.remote(number), give_back.remote(number + 1)])


@ray.remote(checkpoint_interval=5)
class Counter:
    def __init__(self) -> None:
        self.count = 0

    def begin(self) -> None:
        begin_a_storm()

    def end(self) -> int:
        end_the_storm()
        return self.count

    def add(self) -> int:
        self.count += 1
        return self.count

    def __ray_save__(self) -> int:
        return self.count

    def __ray_restore__(self, count: int) -> None:
        self.count = count


@contextlib.contextmanager
def session() -> Iterator[None]:
    ray.init(num_cpus=1, driver_mode=ray.SILENT_MODE, config={"worker_limit": 1})
    try:
        yield
    finally:
        ray.shutdown()


@pytest.fixture
def one_worker() -> Iterator[None]:
    with session():
        yield


def all_answers(results: list[ray.ObjectID]) -> list[Any]:
    """The values, and None for what an alarm has interrupted."""
    answers = []
    for result in results:
        try:
            answers.append(ray.get(result, timeout=PATIENCE_MS))
        except (RayTaskError, SerializationError) as error:  # the latter: amid the unpickling of what failed
            if "TooLateError: too late" not in str(error):
                raise
            answers.append(None)
    return answers


def answer_of(remote: Callable[[], ray.ObjectID]) -> Any:
    """Of a call that an alarm may interrupt, and that may be made again."""
    while (answer := all_answers([remote()])[0]) is None:
        pass
    return answer


def test_the_worker_and_the_result_stay(capfd: pytest.CaptureFixture[str]) -> None:
    workers = set()
    with session():
        for number in range(4):
            result = leave_an_alarm.remote(number)
            time.sleep(3 * ALARM_S)  # the alarm is meant for a worker that waits
            given, pid = ray.get(result, timeout=PATIENCE_MS)
            assert given == number
            workers.add(pid)
    assert len(workers) == 1
    assert "TooLateError: too late" in capfd.readouterr().err


@pytest.mark.usefixtures("one_worker")
def test_every_task_is_answered_in_a_storm() -> None:
    pid = answer_of(begin.remote)
    answers = all_answers([give_back.remote(number) for number in range(TASKS)])
    assert answer_of(end.remote) == pid
    assert all(answer in (number, None) for number, answer in enumerate(answers))
    assert any(answer is not None for answer in answers)


@pytest.mark.usefixtures("one_worker")
def test_no_result_is_another_tasks_where_one_helps_another() -> None:
    pid = answer_of(begin.remote)
    answers = all_answers([give_back_two.remote(number) for number in range(TASKS // 3)])
    assert answer_of(end.remote) == pid
    assert all(answer in ([number, number + 1], None) for number, answer in enumerate(answers))
    assert any(answer is not None for answer in answers)


@pytest.mark.usefixtures("one_worker")
def test_the_calls_of_an_actor_are_answered_in_their_order() -> None:
    counter = Counter.remote()
    all_answers([counter.begin.remote()])
    counts = [n for n in all_answers([counter.add.remote() for _ in range(TASKS)]) if n is not None]
    assert counts == sorted(set(counts))
    assert counts[-1] <= answer_of(counter.end.remote) <= TASKS


@ray.remote
def handlers_as_users_see_them() -> list[bool]:
    before = signal.signal(signal.SIGALRM, late)
    seen = [before == signal.SIG_DFL, signal.getsignal(signal.SIGALRM) is late]
    seen.append(signal.signal(signal.SIGALRM, signal.SIG_DFL) is late)
    seen.append(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    seen.append(asyncio.run(asyncio.sleep(0, True)))
    return seen


@pytest.mark.usefixtures("one_worker")
def test_a_task_finds_its_own_handlers() -> None:
    assert ray.get(handlers_as_users_see_them.remote(), timeout=PATIENCE_MS) == [True] * 5


@ray.remote
def leave_an_exit() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    return os.getpid()


@pytest.mark.usefixtures("one_worker")
def test_a_handler_that_exits_ends_an_idle_worker() -> None:
    pid = ray.get(leave_an_exit.remote(), timeout=PATIENCE_MS)
    os.kill(pid, signal.SIGTERM)
    assert ray.get(give_back.remote(7), timeout=PATIENCE_MS) == 7
    assert ray.get(end.remote(), timeout=PATIENCE_MS) != pid
