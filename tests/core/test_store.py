"""A full store, or table: waiting for room, and the error when none comes."""

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ray
from ray._kernel import TableFull
from ray.core import session_state
from ray.errors import ObjectLostError, TableFullError


def run(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_put_waits_for_room_and_goes_on_when_there_is_some() -> None:
    run(
        """
        import ray, threading, time
        ray.init(num_cpus=1, object_store_memory=32 << 20, driver_mode=ray.SILENT_MODE,
                 config={"spill_fraction": 0})
        held = [ray.put(bytes(12 << 20)), ray.put(bytes(12 << 20))]
        threading.Timer(0.3, held.clear).start()
        start = time.monotonic()
        again = ray.put(bytes(16 << 20))
        assert 0.2 < time.monotonic() - start < 8
        assert len(ray.get(again)) == 16 << 20
        """
    )


@pytest.mark.quiet
def test_an_error_after_the_wait_names_the_sizes() -> None:
    run(
        """
        import ray, time
        from ray.errors import ObjectStoreFullError
        ray.init(num_cpus=1, object_store_memory=16 << 20,
                 config={"store_full_wait_ms": 200, "spill_fraction": 0})
        held = ray.put(bytes(12 << 20))
        start = time.monotonic()
        try:
            ray.put(bytes(8 << 20))
        except ObjectStoreFullError as error:
            assert error.wanted_bytes >= 8 << 20, error
            assert error.used_bytes >= 12 << 20, error
            assert error.waited_ms == 200, error
        else:
            raise SystemExit("it found room")
        assert 0.2 <= time.monotonic() - start < 5
        start = time.monotonic()
        try:
            ray.put(bytes(64 << 20))
        except ObjectStoreFullError as error:
            assert error.waited_ms == 0, error
        else:
            raise SystemExit("it found room")
        assert time.monotonic() - start < 0.15
        """
    )


def test_ids_in_reference_cycles_make_room() -> None:
    run(
        """
        import gc, ray
        gc.disable()
        ray.init(num_cpus=1, object_store_memory=16 << 20,
                 config={"store_full_wait_ms": 0, "spill_fraction": 0})
        for _ in range(5):
            cycle = [ray.put(bytes(10 << 20))]
            cycle.append(cycle)
            del cycle
        """
    )


def test_a_task_that_waits_for_room_lends_its_cpu_to_whoever_makes_some() -> None:
    run(
        """
        import ray
        ray.init(num_cpus=1, object_store_memory=32 << 20)

        @ray.remote
        class Holder:
            def __init__(self):
                self.ids = [ray.put(bytes(20 << 20))]

            def clear(self):
                self.ids.clear()
                ray.put(0)

        @ray.remote
        def produce(holder):
            holder.clear.remote()
            return bytes(24 << 20)

        holder = Holder.remote()
        assert len(ray.get(produce.remote(holder), timeout=8_000)) == 24 << 20
        """
    )


def test_a_result_that_finds_no_room_is_an_error_of_its_task() -> None:
    run(
        """
        import ray
        from ray.errors import ObjectStoreFullError
        ray.init(num_cpus=1, object_store_memory=16 << 20,
                 config={"store_full_wait_ms": 100, "spill_fraction": 0},
                 driver_mode=ray.SILENT_MODE)
        held = ray.put(bytes(12 << 20))

        @ray.remote
        def produce(size):
            return bytes(size)

        for _ in range(2):
            try:
                ray.get(produce.remote(8 << 20), timeout=20_000)
            except ObjectStoreFullError as error:
                assert "produce" in str(error), error
            else:
                raise SystemExit("it found room")
        assert ray.get(produce.remote(10)) == bytes(10)
        """
    )


def test_many_puts_and_tasks_run_in_constant_memory() -> None:
    run(
        """
        import ray
        ray.init(num_cpus=1)

        @ray.remote
        def f(x):
            return [x]

        arena = ray._kernel.current()
        def round():
            for n in range(20_000):
                ray.put(n)
                ray.put([ray.put(n)])
            ray.get([f.remote(n) for n in range(5_000)])
            ray.get([f.remote([ray.put(n)]) for n in range(1_000)])
        def used():
            [ray.put(0) for _ in range(200)]
            stats = arena.stats()
            names = ("objects", "tasks", "links", "references", "heap_used_bytes")
            return {name: stats[name] for name in names}
        round()
        first = used()
        for _ in range(4):
            round()
        last = used()
        for name in first:
            assert last[name] <= first[name] + 300 * (64 if "bytes" in name else 1), (name, first, last)
        assert arena.check() == []
        """
    )


class FullAtFirst:
    """Stands before an arena whose table of tasks is full for the first calls."""

    def __init__(self, arena: Any, table: str, times: int) -> None:
        self._arena = arena
        self._table = table
        self.left = times

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._arena, name)
        if name not in ("submit", "call", "create_actor"):
            return real

        def call(*args: Any) -> Any:
            if self.left:
                self.left -= 1
                raise TableFull(self._table, 1000)
            return real(*args)

        return call


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, int], FullAtFirst]]:
    ray.init(num_cpus=1, driver_mode=ray.SILENT_MODE)
    session = session_state.require("test")

    def stand_in(table: str, times: int) -> FullAtFirst:
        found = FullAtFirst(session.arena, table, times)
        monkeypatch.setattr(session, "submitter", found)
        return found

    yield stand_in
    ray.shutdown()


def test_a_driver_waits_while_the_table_of_tasks_is_full(full: Callable[[str, int], FullAtFirst]) -> None:
    @ray.remote
    def f(x: int) -> int:
        return x

    @ray.remote
    class Actor:
        def call(self) -> int:
            return 2

    submitter = full("tasks", 3)
    assert ray.get(f.remote(1)) == 1
    assert submitter.left == 0
    actor = Actor.remote()
    submitter.left = 2
    assert ray.get(actor.call.remote()) == 2
    submitter.left = 1
    assert ray.get(Actor.remote().call.remote()) == 2


def test_other_full_tables_and_tasks_get_an_error(full: Callable[[str, int], FullAtFirst]) -> None:
    @ray.remote
    def f(x: int) -> int:
        return x

    full("objects", 100)
    with pytest.raises(TableFullError) as caught:
        f.remote(1)
    assert (caught.value.table, caught.value.capacity) == ("objects", 1000)
    session = session_state.require("test")
    full("tasks", 100)
    f.forget()  # the submitter that it was bound to
    session.mode = ray.WORKER_MODE
    try:
        with pytest.raises(TableFullError, match="tasks"):
            f.remote(1)
    finally:
        session.mode = ray.SILENT_MODE


def test_who_waits_for_a_promise_that_was_dropped_is_told() -> None:
    ray.init(num_cpus=1, driver_mode=ray.SILENT_MODE)
    try:
        session = session_state.require("test")

        @ray.remote
        def read(ids: list[Any]) -> Any:
            return ray.get(ids[0])

        never = session.arena.reserve()
        name = never.hex()
        reader = read.remote([never])
        del never
        with pytest.raises(ObjectLostError, match=name):
            ray.get(reader, timeout=10_000)
    finally:
        ray.shutdown()
