"""A program that closes descriptors that it does not own: its own files stay its own."""

import subprocess
import sys
import textwrap


def run(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


CLOSED = """
import os, tempfile
from ray import _kernel

MIB = 1 << 20
arena = _kernel.Arena.create(16 * MIB, [10_000, 0, 0])
arena.register(_kernel.DRIVER)
with tempfile.TemporaryFile() as spill_file:
    arena.set_spill_file(spill_file.fileno(), 64 * MIB)
values = [arena.put(bytes([1]) * MIB, 0) for _ in range(4)]
os.closerange(3, 256)
folder = tempfile.TemporaryDirectory()
files = [open(os.path.join(folder.name, str(number)), "wb+") for number in range(40)]
"""

UNTOUCHED = """
assert [os.fstat(file.fileno()).st_size for file in files] == [0] * 40
for file in files:
    file.write(b"mine")
    file.flush()
assert arena.check() == []
arena.leave()
for file in files:
    assert os.pread(file.fileno(), 9, 0) == b"mine"  # still open, and as it was
"""


def test_large_values_are_not_written_into_somebody_elses_file() -> None:
    run(
        CLOSED
        + """
values += [arena.put(bytes([2]) * (4 * MIB), 0)]
assert bytes(arena.get(values[-1])[1]) == bytes([2]) * (4 * MIB)
"""
        + UNTOUCHED
    )


def test_values_are_not_spilled_into_somebody_elses_file() -> None:
    run(
        CLOSED
        + """
try:
    arena.spill(2 * MIB)
    arena.spill(2 * MIB)
except _kernel.SpillFailed:
    pass
else:
    raise AssertionError("spilled to where nobody finds it")
for value in values:
    assert bytes(arena.get(value)[1]) == bytes([1]) * MIB
"""
        + UNTOUCHED
    )
