"""What is counted as memory and processor time of a process and its descendants."""

import contextlib
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

MIB = 1 << 20

HOLDS_MEMORY = f"""
import sys
held = bytearray(b"x") * (32 * {MIB})
print("ready", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def child(program: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program that says "ready", and ends when its input does."""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.stdin.close()


def test_private_memory_stands_under_its_process(benchmarks: SimpleNamespace) -> None:
    with child(HOLDS_MEMORY, benchmarks.memory.marked()) as process:
        memory = benchmarks.memory.Memory.of_family(process.pid)
    assert list(memory.private) == [process.pid]
    assert 32 * MIB < memory.private[process.pid] < 64 * MIB


def test_a_child_belongs_to_the_family_without_a_mark(benchmarks: SimpleNamespace) -> None:
    with child(HOLDS_MEMORY, {}) as process:
        assert process.pid in benchmarks.memory.family()


def test_one_with_the_mark_belongs_to_the_family_wherever_it_is(benchmarks: SimpleNamespace) -> None:
    environment = benchmarks.memory.marked()
    with child(HOLDS_MEMORY, environment) as one, child(HOLDS_MEMORY, environment) as other:
        assert benchmarks.memory.family(one.pid) == {one.pid, other.pid}
        assert benchmarks.memory.marked_with(environment[benchmarks.memory.MARK]) == {one.pid, other.pid}


def test_shared_memory_counts_mapped_or_not(benchmarks: SimpleNamespace) -> None:
    of_family = benchmarks.memory.Memory.of_family
    before = of_family()
    descriptor = os.memfd_create("benchmark")
    try:
        os.posix_fallocate(descriptor, 0, 16 * MIB)
        assert (of_family() - before).shared == 16 * MIB
        with mmap.mmap(descriptor, 16 * MIB) as mapped:
            mapped[: 8 * MIB] = b"x" * (8 * MIB)
            assert (of_family() - before).shared == 16 * MIB
    finally:
        os.close(descriptor)
    assert (of_family() - before).shared == 0


def test_processor_time_is_that_of_all_threads(benchmarks: SimpleNamespace) -> None:
    before = benchmarks.memory.cpu_seconds({os.getpid()})
    began = time.thread_time()
    while time.thread_time() - began < 0.05:
        pass
    assert 0.05 <= benchmarks.memory.cpu_seconds({os.getpid()}) - before < 5


def test_own_memory_is_what_a_process_has_written_itself(benchmarks: SimpleNamespace) -> None:
    before = benchmarks.memory.anonymous({os.getpid()})[os.getpid()]
    own = mmap.mmap(-1, 16 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    shared = mmap.mmap(-1, 16 * MIB)
    with contextlib.closing(own), contextlib.closing(shared):
        for offset in range(0, 16 * MIB, mmap.PAGESIZE):
            own[offset] = shared[offset] = 1
        grown = benchmarks.memory.anonymous({os.getpid()})[os.getpid()] - before
    assert 16 * MIB <= grown < 17 * MIB
