"""The driver of the soak: work of every kind, each result checked, no error but those that are meant.

A kind of work is a method that returns how many results it has checked. What may fail when a process is
killed says so itself: calls of actors without checkpoints, and tasks that are not run again.
"""

import collections
import json
import os
import pickle
import random
import sys
import time
from typing import Any

import numpy as np

import ray
from ray import errors
from tests.chaos import inside

STORE_BYTES = 96 << 20
SAY_EVERY_S = 5.0
SETTINGS = {"restart_limit": 1_000_000, "idle_worker_ms": 2000, "lock_patience_ms": 200}
AGAIN = 1000  # max_retries: as often as it takes
JOURNAL_ENTRIES = 1 << 14  # kernel/numbers.hpp: more push out the oldest
ENTRY_BYTES = 2000  # of the heap, for the failure that an entry names
HELD = "held"  # a file that a task waits for the end of
RELEASE = "release"  # the file whose appearance ends the work


@ray.remote(max_retries=AGAIN)
def double(x: int) -> int:
    return 2 * x


@ray.remote(max_retries=AGAIN)
def total(*values: int) -> int:
    return sum(values)


@ray.remote(max_retries=AGAIN)
def nap(seconds: float, value: int) -> int:
    time.sleep(seconds)
    return value


@ray.remote(max_retries=AGAIN)
def until_gone(path: str, value: int) -> int:
    while os.path.exists(path):
        time.sleep(0.001)
    return value


@ray.remote(max_retries=AGAIN)
def nested(count: int, depth: int) -> int:
    if depth == 0:
        return count
    return sum(ray.get([nested.remote(count, depth - 1) for _ in range(2)]))


@ray.remote(max_retries=AGAIN)
def pattern(seed: int, count: int) -> np.ndarray[Any, Any]:
    return np.arange(count, dtype=np.uint32) * np.uint32(seed)


@ray.remote(max_retries=AGAIN)
def checksum(array: np.ndarray[Any, Any]) -> int:
    return int(array.sum(dtype=np.uint64))


@ray.remote(max_retries=AGAIN)
def look_inside(box: dict[str, Any]) -> int:
    return int(sum(ray.get(box["ids"]))) + int(ray.get(pickle.loads(box["by hand"])))


@ray.remote(max_retries=AGAIN)
def fails(text: str) -> None:
    raise ValueError(text)


@ray.remote(max_retries=0)
def leaves() -> None:
    os._exit(7)


class Counter:
    def __init__(self) -> None:
        self.value = 0

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value


PlainCounter = ray.remote(Counter)
KeptCounter = ray.remote(checkpoint_interval=10)(Counter)


class Work:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.expected: collections.Counter[str] = collections.Counter()
        self.checked = 0
        self.rounds = 0
        self.kinds = [
            self.tasks,
            self.chain,
            self.nested_tasks,
            self.waits,
            self.small_values,
            self.large_values,
            self.ids_in_values,
            self.plain_actor,
            self.kept_actor,
            self.killed_actor,
            self.wrong_tasks,
            self.dying_tasks,
            self.timeouts,
        ]

    def one_round(self) -> None:
        kind = self.random.choice(self.kinds) if self.random.random() < 0.97 else self.spilling
        self.checked += kind()
        self.rounds += 1

    def every_kind(self) -> None:
        for kind in (*self.kinds, self.spilling):
            self.checked += kind()

    # --- kinds of work ---

    def tasks(self) -> int:
        doubles = [double.remote(number) for number in range(50)]
        assert ray.get(total.remote(*doubles)) == 2450
        assert ray.get(doubles) == [2 * number for number in range(50)]
        return 51

    def chain(self) -> int:
        value = double.remote(1)
        for _ in range(29):
            value = double.remote(value)
        assert ray.get(value) == 1 << 30
        return 1

    def nested_tasks(self) -> int:
        assert ray.get(nested.remote(3, 3)) == 24
        return 1

    def waits(self) -> int:
        left = [nap.remote(self.random.uniform(0, 0.005), number) for number in range(20)]
        seen = []
        while left:
            ready, left = ray.wait(left, num_returns=1)
            seen += ray.get(ready)
        assert sorted(seen) == list(range(20))
        return 20

    def small_values(self) -> int:
        values = [(number, f"value {number}", {"key": [number] * 5}) for number in range(100)]
        assert ray.get([ray.put(value) for value in values]) == values
        return 100

    def large_values(self) -> int:
        arrays = [pattern.remote(seed, self.random.randrange(1, 1 << 19)) for seed in range(1, 7)]
        sums = ray.get([checksum.remote(array) for array in arrays])
        assert sums == [int(ray.get(array).sum(dtype=np.uint64)) for array in arrays]
        mine = np.arange(self.random.randrange(1, 1 << 19), dtype=np.uint32)
        assert ray.get(checksum.remote(ray.put(mine))) == int(mine.sum(dtype=np.uint64))
        return 7

    def ids_in_values(self) -> int:
        box = {"ids": [double.remote(number) for number in range(10)], "by hand": pickle.dumps(ray.put(5))}
        kept = pickle.loads(box["by hand"])  # what was pickled by hand is nobody's until it is unpickled
        assert ray.get(look_inside.remote(ray.put(box))) == 95
        assert ray.get(kept) == 5
        return 2

    def plain_actor(self) -> int:
        counter = PlainCounter.remote()
        calls = [counter.add.remote(1) for _ in range(20)]
        done = 0
        for number, call in enumerate(calls):
            try:
                assert ray.get(call) == number + 1
                done += 1
            except errors.ActorDiedError:
                self.expected["ActorDiedError of an actor without checkpoints"] += 1
        return done

    def kept_actor(self) -> int:
        counter = KeptCounter.remote()
        amounts = [self.random.randrange(10) for _ in range(35)]
        calls = [counter.add.remote(amount) for amount in amounts]
        assert ray.get(calls) == [sum(amounts[: end + 1]) for end in range(35)]
        return 35

    def killed_actor(self) -> int:
        counter = KeptCounter.remote()
        ray.get(counter.add.remote(1))
        ray.kill(counter)
        return self._raises(errors.ActorKilledError, counter.add.remote(1))

    def wrong_tasks(self) -> int:
        done = sum(self._raises(ValueError, fails.remote(f"wrong {number}")) for number in range(5))
        return done + self._raises(ValueError, total.remote(1, fails.remote("an argument")))

    def dying_tasks(self) -> int:
        return self._raises(errors.WorkerCrashedError, leaves.remote())

    def timeouts(self) -> int:
        with open(HELD, "x", encoding="utf-8"):
            late = until_gone.remote(os.path.abspath(HELD), 1)
        self._raises(errors.GetTimeoutError, late, timeout=1)
        os.unlink(HELD)
        ready, rest = ray.wait([late], timeout=0)
        assert (len(ready), len(rest)) in ((0, 1), (1, 0))
        assert ray.get(late) == 1
        return 2

    def spilling(self) -> int:
        """Two and a half times the store, read back in another order."""
        size = 1 << 20
        numbers = list(range(1, 5 * STORE_BYTES // 2 // (4 * size) + 1))
        ids = {number: ray.put(np.full(size, number, dtype=np.uint32)) for number in numbers}
        self.random.shuffle(numbers)
        for number in numbers:
            array = ray.get(ids.pop(number))
            assert array[0] == array[-1] == number
            assert int(array.sum(dtype=np.uint64)) == number * size
            del array
        return len(numbers)

    def _raises(self, kind: type[Exception], oid: Any, timeout: int | None = None) -> int:
        try:
            value = ray.get(oid, timeout=timeout)
        except kind as error:
            self.expected[kind.__name__ if timeout is None else "GetTimeoutError"] += 1
            del error
            return 1
        raise AssertionError(f"{kind.__name__} was expected, and there was {value!r}")


def main() -> None:
    info = ray.init(num_cpus=2, driver_mode=ray.SILENT_MODE, object_store_memory=STORE_BYTES, config=SETTINGS)
    print(json.dumps(info), flush=True)
    work = Work(int(sys.argv[1]))
    work.every_kind()
    baseline = inside.Baseline()
    journaled = inside.arena().stats()["journal_last"]
    lives_on, amount = KeptCounter.remote(), 0
    inside.say("begin")
    spoke = time.monotonic()
    while not os.path.exists(RELEASE):
        work.one_round()
        amount += work.rounds
        assert ray.get(lives_on.add.remote(work.rounds)) == amount
        if time.monotonic() > spoke + SAY_EVERY_S:
            spoke = time.monotonic()
            inside.say(f"rounds {work.rounds} checked {work.checked} errors {sum(work.expected.values())}")
    del lives_on
    news = min(inside.arena().stats()["journal_last"] - journaled, JOURNAL_ENTRIES)
    # Which workers hold the functions changes: with each of them, some references.
    baseline.check({**inside.journal_of(news), "heap_used_bytes": ENTRY_BYTES * news, "references": 6 + news})
    for name, count in sorted(work.expected.items()):
        inside.say(f"expected {count} {name}")
    inside.figure("rounds of work", work.rounds, "rounds")
    inside.figure("results checked", work.checked, "results")
    inside.done()
