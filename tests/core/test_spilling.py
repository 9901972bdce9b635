"""A store filled to many times its size: values go to disk, and come back right."""

import os
import random
import subprocess
import sys
import tempfile
import textwrap

import numpy as np
import pytest

import ray
from ray import _kernel
from ray.errors import ObjectStoreFullError, SpillError

MIB = 1 << 20


@pytest.fixture
def small_store():
    ray.init(num_cpus=2, object_store_memory=32 * MIB, config={"store_full_wait_ms": 300})
    yield _kernel.current()
    ray.shutdown()


def _array(number):
    return np.full(MIB // 8, number, dtype=np.int64)


def test_ten_times_the_store_is_read_back_in_random_order(small_store):
    ids = [ray.put(_array(number)) for number in range(320)]
    order = list(range(320))
    random.Random(7).shuffle(order)
    for number in order:
        value = ray.get(ids[number])
        assert value[0] == value[-1] == number
        del value
    stats = small_store.stats()
    assert stats["spilled_bytes"] > 200 * MIB
    assert stats["restored_bytes"] > 200 * MIB
    assert small_store.check() == []
    del ids
    assert ray.get(ray.put(1)) == 1
    small_store.spill(0)  # an operation that lets queued drops go
    assert small_store.stats()["spill_file_used_bytes"] == 0


def test_tasks_take_and_return_values_that_were_spilled(small_store):
    @ray.remote
    def plus_one(array):
        return array + 1

    ids = [plus_one.remote(ray.put(_array(number))) for number in range(100)]
    for number, oid in enumerate(ids):
        assert ray.get(oid)[0] == number + 1
    assert small_store.check() == []


def test_what_is_in_use_stays(small_store):
    held = [ray.get(ray.put(_array(number))) for number in range(8)]
    ids = [ray.put(_array(100 + number)) for number in range(100)]
    assert [array[0] for array in held] == list(range(8))
    assert ray.get(ids[0])[0] == 100


def test_a_store_full_of_values_in_use_is_an_error_with_the_sizes(small_store):
    ids = [ray.put(_array(number)) for number in range(64)]
    held = []

    def hold_all():
        for oid in ids:
            held.append(ray.get(oid))

    with pytest.raises(ObjectStoreFullError, match=r"32\.0 MiB"):
        hold_all()
    assert len(held) >= 28
    held.clear()
    assert ray.get(ids[-1])[0] == 63


def test_a_full_disk_is_an_error_that_names_the_folder():
    arena = _kernel.Arena.create(4 * MIB, [10_000, 0, 0])
    arena.register(_kernel.DRIVER, os.urandom(16) + bytes(4))
    fd = os.open("/dev/full", os.O_RDWR)
    arena.set_spill_file(fd, 64 * MIB)
    os.close(fd)
    ids = [arena.put(bytes(MIB), 2) for _ in range(3)]
    with pytest.raises(_kernel.SpillFailed) as caught:
        arena.put(bytes(2 * MIB), 2)
    assert caught.value.args == (28,)  # ENOSPC
    assert arena.check() == []
    assert len(ids[:2]) == 2
    del ids
    assert arena.get(arena.put(bytes(2 * MIB), 2))[0] == 2
    arena.leave()
    assert "/big/disk" in str(SpillError("/big/disk", "No space left on device"))


def test_nothing_is_left_on_disk(tmp_path):
    program = """
    import numpy as np, ray
    ray.init(num_cpus=1, object_store_memory=16 << 20)
    ids = [ray.put(np.zeros(1 << 17)) for _ in range(64)]
    assert ray._kernel.current().stats()["spilled_bytes"] > 0
    import os
    os._exit(0)
    """
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=environment, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_a_get_of_more_than_the_store_holds_is_an_error_with_the_sizes(small_store):
    ids = [ray.put(_array(number)) for number in range(64)]
    with pytest.raises(ObjectStoreFullError, match=r"32\.0 MiB"):
        ray.get(ids)
    assert [array[0] for array in ray.get(ids[10:20])] == list(range(10, 20))
    assert small_store.check() == []


def test_an_actor_comes_back_from_a_checkpoint_that_was_spilled(small_store):
    @ray.remote(checkpoint_interval=1)
    class Keeper:
        def __init__(self):
            self.array = _array(5)

        def first(self):
            return int(self.array[0]), os.getpid()

    keeper = Keeper.remote()
    first, pid = ray.get(keeper.first.remote())
    ray.get(keeper.first.remote())  # the checkpoint of the first call is there
    ids = [ray.put(_array(number)) for number in range(64)]
    assert first == 5
    os.kill(pid, 9)
    first, later = ray.get(keeper.first.remote())
    assert first == 5
    assert later != pid
    assert len(ids) == 64


def test_the_journal_is_read_where_there_is_no_room():
    arena = _kernel.Arena.create(4 * MIB, [10_000, 0, 0])
    arena.register(_kernel.DRIVER, os.urandom(16) + bytes(4))
    with tempfile.TemporaryFile() as file:
        arena.set_spill_file(file.fileno(), 64 * MIB)
    note = random.Random(3).randbytes(MIB)
    arena.journal(_kernel.JOURNAL_NOTE, note)
    arena.spill(4 * MIB)
    assert arena.stats()["spill_file_used_bytes"] == MIB
    held = arena.get(arena.put(bytes(4 * MIB), 2))
    _, entries = arena.journal_read(0)
    assert entries[-1][4] == note
    assert arena.stats()["restored_bytes"] == 0
    assert arena.check() == []
    del held
    arena.leave()


def test_what_values_have_left_goes_back_to_the_disk():
    arena = _kernel.Arena.create(32 * MIB, [10_000, 0, 0])
    arena.register(_kernel.DRIVER)
    assert arena.trim_spill_file() == 0  # there is no file
    with tempfile.TemporaryFile() as file:
        arena.set_spill_file(file.fileno(), 256 * MIB)
        ids = [arena.put(bytes([number]) * MIB, 0) for number in range(24)]
        while arena.spill(32 * MIB):
            pass
        assert os.fstat(file.fileno()).st_blocks * 512 >= 24 * MIB
        kept = ids[10]
        del ids
        arena.stats()  # lets dropped ids go
        some = arena.trim_spill_file(2 * MIB)
        assert 2 * MIB <= some < 8 * MIB
        assert some + arena.trim_spill_file() == 23 * MIB
        assert arena.trim_spill_file() == 0
        assert os.fstat(file.fileno()).st_blocks * 512 == MIB
        assert bytes(arena.get(kept)[1]) == bytes([10]) * MIB
        assert arena.check() == []
    arena.leave()


def test_a_value_is_described_without_being_brought_back():
    arena = _kernel.Arena.create(4 * MIB, [10_000, 0, 0])
    arena.register(_kernel.DRIVER)
    pending, small = arena.reserve(), arena.put(b"small", 7)
    with tempfile.TemporaryFile() as file:
        arena.set_spill_file(file.fileno(), 64 * MIB)
        large = arena.put(bytes(MIB), 5)
        while arena.spill(4 * MIB):
            pass
    assert [arena.described(oid) for oid in (pending, small, large)] == [None, (7, 5), (5, MIB)]
    assert arena.stats()["spill_file_used_bytes"] == MIB
    assert arena.stats()["restored_bytes"] == 0
    arena.leave()
