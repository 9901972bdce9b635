"""A list of ids that another thread changes while it is waited for."""

import sys
import threading
from collections.abc import Iterator

import pytest

import ray
from ray import ObjectID, _kernel

VALUE = bytes(range(256)) * 40


@pytest.fixture
def arena() -> Iterator[_kernel.Arena]:
    ray.init(num_cpus=1)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # other threads run only while this one waits
    arena = _kernel.current()
    assert arena is not None
    yield arena
    sys.setswitchinterval(interval)
    ray.shutdown()


def _cleared_during_the_wait(arena: _kernel.Arena) -> tuple[list[ObjectID], threading.Thread]:
    pending = arena.reserve()
    ids = [ray.put(VALUE), pending]
    begun = threading.Event()

    def change() -> None:
        begun.wait()
        ids.clear()
        others = [ray.put(b"other") for _ in range(100)]
        fmt, data = arena.get(ray.put(None))
        assert isinstance(data, bytes)
        arena.seal(pending, data, fmt)
        del others

    thread = threading.Thread(target=change)
    thread.start()
    begun.set()
    return ids, thread


def test_get_gives_the_values_of_the_ids_it_was_given(arena: _kernel.Arena) -> None:
    ids, thread = _cleared_during_the_wait(arena)
    assert ray.get(ids) == [VALUE, None]
    thread.join()
    assert ids == []
    assert arena.check() == []


def test_wait_gives_the_ids_it_was_given(arena: _kernel.Arena) -> None:
    ids, thread = _cleared_during_the_wait(arena)
    names = [oid.hex() for oid in ids]
    found, left = ray.wait(ids, num_returns=2)
    thread.join()
    assert [oid.hex() for oid in found] == names
    assert left == []
    assert ray.get(found) == [VALUE, None]
    assert arena.check() == []
