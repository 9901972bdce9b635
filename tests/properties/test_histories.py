"""Concurrent histories of a real arena and real actors, checked for linearizability."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ray
from ray import _kernel
from tests.properties.clients import Client, Hands
from tests.properties.forms import examples, run_number
from tests.properties.linearizability import (
    NEVER,
    Operation,
    is_linearizable,
    most_at_once,
    register,
    write_once,
)

RAW = 2
CLIENTS = 4
PROMISES = 20
STEPS = 6  # of each client with each promise
SIZES = (0, 100, 5000)  # bytes behind the number: in the record, copied, in a block
HEAD_START_S = 0.005  # for the last client to hear of it
CALLERS, CALLS, AT_ONCE = 4, 12, 3
WATCHDOG_S = 60.0


class Racer(Hands):
    """Goes through the promises with the others, and writes down every step before and after it."""

    def race(self, ids: list[tuple[bytes, int]], log: str, seed: int, start_ns: int) -> None:
        chance = random.Random(seed)
        promises = [_kernel.ObjectID(*each) for each in ids]
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        while time.monotonic_ns() < start_ns:
            pass
        for number, promise in enumerate(promises):
            for step in range(STEPS):
                name = chance.choice(["seal", "get", "ready", "await"])
                value = os.getpid() * 1000 + step
                self._note(time.monotonic_ns(), number, name, value)
                result = self._do(name, promise, value, chance)
                self._note(time.monotonic_ns(), result)
        os.close(self.log)

    def _note(self, *parts: object) -> None:
        os.write(self.log, (" ".join(map(str, parts)) + "\n").encode())

    def _do(self, name: str, promise: _kernel.ObjectID, value: int, chance: random.Random) -> object:
        if name == "seal":
            data = value.to_bytes(8, "little") + bytes(chance.choice(SIZES))
            return int(self.arena.seal(promise, data, RAW))
        if name == "ready":
            return int(self.arena.is_ready(promise))
        try:
            if name == "await":
                self.arena.wait([promise], 1, 1)
            data = bytes(self.arena.get(promise, 0)[1])
        except _kernel.WaitTimeout:
            return None
        return int.from_bytes(data[:8], "little")


def steps_of(log: Path, caller: str) -> list[tuple[int, Operation]]:
    """The promise's number and the step, from one client's log; the last may have no end."""
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    found = []
    for at in range(0, len(lines), 2):
        called, number, name, value = lines[at].split()
        end, result = lines[at + 1].split() if at + 1 < len(lines) else ("inf", "None")
        # A wait is seen by what is there after it.
        seen = None if result == "None" else int(result)
        shown = "get" if name == "await" else name
        operation = Operation(caller, float(called), float(end), shown, int(value), seen)
        found.append((int(number), operation))
    return found


def race(folder: Path, seed: int, kill: bool) -> list[list[Operation]]:
    """The histories of all promises, one list for each; `kill` ends a client in the middle."""
    arena = _kernel.Arena.create(64 << 20, [_kernel.UNIT, 0, 0])
    arena.register(_kernel.DRIVER, os.urandom(16) + bytes(4))
    clients = [Client(arena, _kernel.DRIVER, Racer, os.urandom(16) + bytes(4)) for _ in range(CLIENTS)]
    promises = [arena.reserve() for _ in range(PROMISES)]
    chance = random.Random(seed)
    logs = [folder / f"{seed}.{number}" for number in range(CLIENTS)]
    try:
        ids = [(each.binary(), each.key) for each in promises]
        start_ns = time.monotonic_ns() + int(HEAD_START_S * 1e9)
        for client, log in zip(clients, logs, strict=True):
            client.begin("race", ids, str(log), chance.randrange(1 << 30), start_ns)
        if kill:
            victim = clients.pop(chance.randrange(CLIENTS))
            victim.answered(HEAD_START_S * chance.uniform(1, 3))
            victim.kill()
        for client in clients:
            client.answer()
        histories: list[list[Operation]] = [[] for _ in promises]
        for number, log in enumerate(logs):
            for promise, operation in steps_of(log, f"client {number}"):
                histories[promise].append(operation)
        for promise, history in zip(promises, histories, strict=True):
            try:
                value: int | None = int.from_bytes(bytes(arena.get(promise, 0)[1])[:8], "little")
            except _kernel.WaitTimeout:
                value = None
            end = float(time.monotonic_ns())
            history.append(Operation("who looks at the end", end, end, "get", None, value))
        assert arena.check() == []
        return histories
    finally:
        for client in clients:
            client.kill()
        promises.clear()
        arena.leave()


@pytest.mark.parametrize("kill", [False, True])
def test_whose_seal_comes_first(tmp_path: Path, kill: bool) -> None:
    chance = random.Random(run_number())
    at_once, contested, cut_off = 0, 0, 0
    for _ in range(examples(6)):
        for history in race(tmp_path, chance.randrange(1 << 30), kill):
            assert is_linearizable(history, None, write_once), "\n".join(map(str, history))
            at_once = max(at_once, most_at_once(history))
            seals = [each.result for each in history if each.name == "seal"]
            contested += len(seals) > 1
            cut_off += any(each.returned == NEVER for each in history)
    assert at_once > 1
    assert contested
    print(f"{at_once} steps at once, {contested} promises sealed by several, {cut_off} steps cut off")


# --- actors ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    ray.init(num_cpus=3, driver_mode=ray.SILENT_MODE)
    yield
    ray.shutdown()


class Register:
    """A number that callers share. Its methods are the operations of `linearizability.register`."""

    def __init__(self) -> None:
        self.value = 0

    def read(self, argument: None) -> int:
        return self.value

    def write(self, argument: int) -> None:
        self.value = argument

    def swap(self, argument: int) -> int:
        before, self.value = self.value, argument
        return before

    def add(self, argument: int) -> int:
        self.value += argument
        return self.value

    def pid(self) -> int:
        return os.getpid()


def use(handle: Any, caller: str, seed: int, together: threading.Barrier | None = None) -> list[Operation]:
    """Calls of one caller, some of them under way at the same time; the first ones of all that meet at the
    barrier certainly are."""
    chance = random.Random(seed)
    done = []
    for turn in range(CALLS):
        begun = []
        first = together is not None and turn == 0
        for _ in range(AT_ONCE if first else chance.randint(1, AT_ONCE)):
            name = chance.choice(["read", "write", "swap", "add"])
            argument = None if name == "read" else chance.randrange(1, 1 << 20)
            called = time.monotonic_ns()
            begun.append((called, name, argument, getattr(handle, name).remote(argument)))
        if together is not None and first:
            together.wait(WATCHDOG_S)
        for called, name, argument, oid in begun:
            result = ray.get(oid)
            done.append(Operation(caller, float(called), float(time.monotonic_ns()), name, argument, result))
    return done


@ray.remote
def use_in_a_task(handle: Any, caller: str, seed: int) -> list[Operation]:
    return use(handle, caller, seed)


def use_in_threads(
    handle: Any, chance: random.Random, meanwhile: Callable[[list[threading.Thread]], None]
) -> list[Operation]:
    """Half of the callers are threads of the driver, half are tasks."""
    found: list[Operation] = []
    tasks = [
        use_in_a_task.remote(handle, f"task {number}", chance.randrange(1 << 30))
        for number in range(CALLERS // 2)
    ]
    together = threading.Barrier(CALLERS // 2)
    threads = [
        threading.Thread(
            target=lambda number, seed: found.extend(use(handle, f"thread {number}", seed, together)),
            args=(number, chance.randrange(1 << 30)),
        )
        for number in range(CALLERS // 2)
    ]
    for thread in threads:
        thread.start()
    meanwhile(threads)
    for thread in threads:
        thread.join()
    for each in ray.get(tasks):
        found += each
    return found


@pytest.mark.usefixtures("session")
def test_an_actor_is_a_register() -> None:
    chance = random.Random(run_number())
    for _ in range(examples(4)):
        handle = ray.remote(Register).remote()
        history = use_in_threads(handle, chance, lambda threads: None)
        assert len(history) >= CALLERS * CALLS
        assert most_at_once(history) > AT_ONCE
        assert is_linearizable(history, 0, register), "\n".join(map(str, history))


@pytest.mark.usefixtures("session")
def test_an_actor_that_is_killed_and_comes_back_is_the_same_register() -> None:
    chance = random.Random(run_number())
    deaths = 0

    def kill_now_and_then(threads: list[threading.Thread]) -> None:
        nonlocal deaths
        while any(thread.is_alive() for thread in threads) and deaths < examples(4):
            pid = ray.get(handle.pid.remote())
            threads[0].join(chance.uniform(0, 0.02))
            os.kill(pid, signal.SIGKILL)
            deaths += 1

    for _ in range(examples(2)):
        handle = ray.remote(checkpoint_interval=5)(Register).remote()
        history = use_in_threads(handle, chance, kill_now_and_then)
        assert is_linearizable(history, 0, register), "\n".join(map(str, history))
    assert deaths
