"""Which task runs next, against a model: dependencies, resources, age, retries, deaths, waiting in tasks.

Workers are processes that take whatever the kernel hands them. After each step the arena must come to
where the model is: the same tasks running, the same number ready, the same resources free.
"""

import dataclasses
import os
import time
from collections import deque
from multiprocessing.connection import wait as wait_for_any
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ray import _kernel
from tests.properties.clients import PATIENCE_S, Client, Hands
from tests.properties.forms import random_run, run_machine

RAW, FAILURE = 2, 150
HALF, WHOLE = _kernel.UNIT // 2, _kernel.UNIT
TOTAL = {"cpu": 2 * WHOLE, "gpu": 2 * WHOLE, "custom": WHOLE}
WORKERS_MAX = 4
PICK = st.integers(0, 1 << 30)
SEVERAL = st.lists(PICK, max_size=3)
Shape = tuple[int, int, int]
SHAPES: list[Shape] = [
    (WHOLE, 0, 0),
    (WHOLE, 0, 0),
    (0, 0, 0),
    (HALF, 0, 0),
    (2 * WHOLE, 0, 0),
    (WHOLE, WHOLE, 0),
    (0, 2 * WHOLE, 0),
    (WHOLE, 0, WHOLE),
    (0, 0, HALF),
]
HOLD_BACK_AFTER, HOLD_BACK_S = 512, 2  # kernel/numbers.hpp
NO_MORE = b"no more"


class Worker(Hands):
    def _number(self, work: Any) -> int:
        assert work is not None
        return int(bytes(work[2]))

    def take(self) -> int:
        return self._number(self.arena.next())

    def finish(self, data: bytes) -> int:
        """In the transaction that takes the next."""
        return self._number(self.arena.next(data, RAW))

    def finish_all(self, values: list[bytes]) -> int:
        self.arena.finish([(value, RAW, None) for value in values])
        return self._number(self.arena.next())

    def fail(self, data: bytes) -> int:
        self.arena.fail(data, FAILURE)
        return self._number(self.arena.next())

    def wait(self, binary: bytes, key: int) -> bytes:
        return bytes(self.arena.get(_kernel.ObjectID(binary, key))[1])

    def attempt(self) -> int:
        return self.arena.attempt()

    def all_there_is(self) -> list[tuple[int, int]]:
        """Ends its task, and runs others to the one that says no more: when each began, and its number."""
        found = []
        data: bytes | None = b""
        while (work := self.arena.next(data, RAW)) and bytes(work[2]) != NO_MORE:
            found.append((time.monotonic_ns(), int(bytes(work[2]))))
            data = b""
        self.arena.complete()
        return found


@dataclasses.dataclass(eq=False)
class Task:
    number: int  # in the order of submission
    shape: Shape
    waits_for: set[str]  # names of promises and results that have no value yet
    retries: int
    results: list[_kernel.ObjectID]
    attempt: int = 0

    def names(self) -> list[str]:
        return [f"{self.number}.{index}" for index in range(len(self.results))]


class Queues(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.arena = _kernel.Arena.create(16 << 20, list(TOTAL.values()))
        self.arena.register(_kernel.DRIVER, os.urandom(16) + bytes(4))
        self.function = self.arena.put(b"function", RAW)
        self.idle: list[Client] = []
        self.running: dict[Client, Task] = {}
        self.waiting_inside: dict[
            Client, str
        ] = {}  # tasks that wait for a promise have given back their CPUs
        self.free = dict(TOTAL)
        self.queues: dict[Shape, deque[Task]] = {}
        self.waiting: list[Task] = []  # for arguments
        self.objects: dict[str, _kernel.ObjectID] = {}  # what a task may have as an argument
        self.values: dict[str, bytes | None] = {}  # None: no value yet
        self.inside: dict[str, _kernel.ObjectID] = {}  # promises that running tasks wait for
        self.made = 0
        for _ in range(2):
            self.add_worker()

    # --- the model ---

    def _fits(self, task: Task) -> bool:
        return all(
            need == 0 or need <= free for need, free in zip(task.shape, self.free.values(), strict=True)
        )

    def _take(self, shape: Shape) -> None:
        for name, need in zip(self.free, shape, strict=True):
            self.free[name] -= need

    def _give(self, shape: Shape) -> None:
        for name, need in zip(self.free, shape, strict=True):
            self.free[name] += need

    def _seal(self, names: list[str], values: list[bytes]) -> None:
        """What waited for these alone is ready: for each of them, the youngest first."""
        for name, value in zip(names, values, strict=True):
            self.values[name] = value
            for task in sorted(self.waiting, key=lambda task: task.number):
                if name in task.waits_for:
                    task.waits_for.remove(name)
                    if not task.waits_for:
                        self.waiting.remove(task)
                        self.queues.setdefault(task.shape, deque()).append(task)

    def _started(self) -> list[Task]:
        """The oldest that fits, of those at the heads of their queues, as long as there are idle workers."""
        started = []
        while len(started) < len(self.idle):
            heads = [queue[0] for queue in self.queues.values() if queue and self._fits(queue[0])]
            if not heads:
                break
            task = min(heads, key=lambda task: task.number)
            self.queues[task.shape].popleft()
            self._take(task.shape)
            started.append(task)
        return started

    def _settle(self) -> None:
        """Waits until the arena is where the model is, and hears which worker has which task."""
        expected = {task.number: task for task in self._started()}
        deadline = time.monotonic() + PATIENCE_S
        while expected and time.monotonic() < deadline:
            wait_for_any([worker.connection for worker in self.idle], 0.1)
            for worker in [worker for worker in self.idle if worker.answered()]:
                number = worker.answer()
                assert number in expected, f"task {number} was taken, and the model has {list(expected)}"
                task = self.running[worker] = expected.pop(number)
                self.idle.remove(worker)
                assert worker.do("attempt") == task.attempt
        assert not expected, f"not taken: {list(expected)}"
        while (seen := self._seen()) != self._state() and time.monotonic() < deadline:
            time.sleep(0.001)
        assert seen == self._state()
        assert self.arena.check() == []

    def _seen(self) -> dict[str, int]:
        stats = self.arena.stats()
        return {name: stats[name] for name in self._state()}

    def _state(self) -> dict[str, int]:
        return {
            "running_tasks": len(self.running),
            "ready_tasks": sum(map(len, self.queues.values())),
            "workers": len(self.idle) + len(self.running),
            **{f"{name}_free": free for name, free in self.free.items()},
        }

    def _with_tasks(self) -> list[Client]:
        """By their tasks: which of two idle workers takes one is by chance, and a step picks by place."""
        return sorted(self.running, key=lambda worker: self.running[worker].number)

    def _working(self) -> list[Client]:
        return [worker for worker in self._with_tasks() if worker not in self.waiting_inside]

    def _done(self, worker: Client) -> Task:
        task = self.running.pop(worker)
        self._give(task.shape)
        self.idle.append(worker)
        return task

    # --- steps ---

    @precondition(lambda self: len(self.idle) + len(self.running) < WORKERS_MAX)
    @rule()
    def add_worker(self) -> None:
        worker = Client(self.arena, _kernel.WORKER, Worker)
        worker.begin("take")
        self.idle.append(worker)
        self._settle()

    @rule(
        count=st.integers(1, 3),
        shape=st.sampled_from(SHAPES),
        picks=SEVERAL,
        returns=st.integers(0, 2),
        retries=st.integers(0, 2),
    )
    def submit(self, count: int, shape: Shape, picks: list[int], returns: int, retries: int) -> None:
        names = sorted(self.objects)
        chosen = list(dict.fromkeys(names[pick % len(names)] for pick in picks)) if names else []
        for _ in range(count):
            self._submit(shape, chosen, returns, retries)

    def _submit(self, shape: Shape, chosen: list[str], returns: int, retries: int) -> None:
        self.made += 1
        found = self.arena.submit(
            self.function,
            str(self.made).encode(),
            [self.objects[name] for name in chosen],
            None,
            returns,
            self.arena.shape(*shape),
            retries,
        )
        results = [] if found is None else found if isinstance(found, list) else [found]
        waits_for = {name for name in chosen if self.values[name] is None}
        task = Task(self.made, shape, waits_for, retries, results)
        for name, oid in zip(task.names(), results, strict=True):
            self.objects[name] = oid
            self.values[name] = None
        if waits_for:
            self.waiting.append(task)
        else:
            self.queues.setdefault(shape, deque()).append(task)
        self._settle()

    @precondition(lambda self: self._working())
    @rule(pick=PICK, large=st.booleans())
    def finish(self, pick: int, large: bool) -> None:
        worker = self._working()[pick % len(self._working())]
        task = self._done(worker)
        values = [(name + "=" * (5000 if large else 1)).encode() for name in task.names()]
        self._seal(task.names(), values)
        if len(values) == 1:
            worker.begin("finish", *values)
        else:
            worker.begin("finish_all", values)
        self._settle()

    @precondition(lambda self: self._working())
    @rule(pick=PICK)
    def fail(self, pick: int) -> None:
        worker = self._working()[pick % len(self._working())]
        task = self._done(worker)
        failure = f"failed {task.number}".encode()
        # Of several results the first has the failure, and the others are sealed after it.
        if len(task.results) > 1 and any(set(task.names()) & other.waits_for for other in self.waiting):
            self._seal(task.names(), [b"well"] * len(task.names()))
            worker.begin("finish_all", [b"well"] * len(task.names()))
        else:
            self._seal(task.names(), [failure] * len(task.names()))
            worker.begin("fail", failure)
        self._settle()

    @rule()
    def promise(self) -> None:
        self.made += 1
        name = f"promise {self.made}"
        self.objects[name] = self.arena.reserve()
        self.values[name] = None

    @precondition(lambda self: self._promises())
    @rule(pick=PICK)
    def keep_promise(self, pick: int) -> None:
        name = self._promises()[pick % len(self._promises())]
        self._seal([name], [name.encode()])
        assert self.arena.seal(self.objects[name], name.encode(), RAW)
        self._settle()

    def _promises(self) -> list[str]:
        return [name for name, value in self.values.items() if value is None and name.startswith("promise")]

    @precondition(lambda self: self._working())
    @rule(pick=PICK)
    def wait_inside(self, pick: int) -> None:
        worker = self._working()[pick % len(self._working())]
        self.made += 1
        name = f"inside {self.made}"
        oid = self.inside[name] = self.arena.reserve()
        worker.begin("wait", oid.binary(), oid.key)
        self.waiting_inside[worker] = name
        self.free["cpu"] += self.running[worker].shape[0]
        self._settle()

    @precondition(lambda self: self.waiting_inside)
    @rule(pick=PICK)
    def go_on(self, pick: int) -> None:
        workers = list(self.waiting_inside)
        worker = workers[pick % len(workers)]
        name = self.waiting_inside.pop(worker)
        self.free["cpu"] -= self.running[worker].shape[0]
        assert self.arena.seal(self.inside.pop(name), name.encode(), RAW)
        assert worker.answer() == name.encode()
        self._settle()

    @precondition(lambda self: self.idle or self.running)
    @rule(pick=PICK)
    def die(self, pick: int) -> None:
        workers = [*self.idle, *self._with_tasks()]
        worker = workers[pick % len(workers)]
        if worker in self.idle:
            self.idle.remove(worker)
        else:
            task = self.running[worker]
            names = task.names()
            again = task.attempt < task.retries
            # The failure reaches the results after the resources have gone to others.
            if not again and any(set(names) & other.waits_for for other in self.waiting):
                return
            del self.running[worker]
            gave_back = self.waiting_inside.pop(worker, None)
            self._give((0 if gave_back else task.shape[0], *task.shape[1:]))
            if gave_back:
                del self.inside[gave_back]
            if again:
                task.attempt += 1
                self.queues.setdefault(task.shape, deque()).appendleft(task)
            else:
                self._seal(names, [b"died"] * len(names))
        worker.kill()
        self._settle()

    @precondition(lambda self: self.objects)
    @rule(pick=PICK)
    def look(self, pick: int) -> None:
        names = sorted(self.objects)
        name = names[pick % len(names)]
        value = self.values[name]
        assert self.arena.is_ready(self.objects[name]) == (value is not None)
        if value is not None:
            fmt, data = self.arena.get(self.objects[name])
            assert (fmt == _kernel.FORMAT_SYSTEM) if value == b"died" else bytes(data) == value

    @precondition(lambda self: self.objects)
    @rule(pick=PICK)
    def forget(self, pick: int) -> None:
        """Whoever drops the results still wants the task to run."""
        names = [name for name in sorted(self.objects) if not name.startswith("promise")]
        if names:
            name = names[pick % len(names)]
            del self.objects[name]

    def teardown(self) -> None:
        if not hasattr(self, "arena"):
            return
        for worker in [*self.idle, *self.running]:
            worker.kill()
        self.arena.leave()


def test_queues_against_a_model() -> None:
    run_machine(Queues, short=10, steps=40)


def younger_before(young: int, workers: int) -> tuple[int, float]:
    """How many younger tasks of one CPU start before one that wants all CPUs, and the seconds it takes."""
    arena = _kernel.Arena.create(16 << 20, [workers * WHOLE, 0, 0])
    arena.register(_kernel.DRIVER, os.urandom(16) + bytes(4))
    hands = [Client(arena, _kernel.WORKER, Worker) for _ in range(workers)]
    function = arena.put(b"function", RAW)
    small, big, none = (arena.shape(cpus * WHOLE, 0, 0) for cpus in (1, workers, 0))

    def submit(payload: bytes, shape: int) -> Any:
        return arena.submit(function, payload, None, None, 1, shape, 0)

    try:
        # All CPUs are in use before the others are there, and from then on one at a time is free.
        kept = [submit(b"-1", small) for _ in hands]
        assert [each.do("take") for each in hands] == [-1] * workers
        kept += [submit(str(number).encode(), small if number else big) for number in range(young)]
        began = time.monotonic()
        for each in hands:
            each.begin("all_there_is")
        arena.get_many(kept)
        took_s = time.monotonic() - began
        kept += [submit(NO_MORE, none) for _ in hands]
        order = [number for _, number in sorted(begun for each in hands for begun in each.answer())]
        assert sorted(order) == list(range(young))
        return order.index(0), took_s
    finally:
        for each in hands:
            each.kill()
        arena.leave()


def test_a_large_demand_holds_back_younger_tasks() -> None:
    @given(young=st.integers(1500, 3000), workers=st.integers(2, 4))
    def bounded(young: int, workers: int) -> None:
        before, took_s = younger_before(young, workers)
        rounds = 1 + int(took_s // HOLD_BACK_S)  # it is for a while, then as many may pass again
        assert HOLD_BACK_AFTER <= before <= rounds * (HOLD_BACK_AFTER + workers)

    random_run(bounded, short=2)()
