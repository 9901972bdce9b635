"""What is no arena, or not this user's, is refused before anything in it is used."""

import os
import struct
import tempfile

import pytest

from ray import _kernel

# Offsets in the header (kernel/records.hpp).
MAGIC, LAYOUT_VERSION, UID, PID_NAMESPACE, TOTAL_BYTES = 0, 8, 12, 16, 24


def arena() -> _kernel.Arena:
    return _kernel.Arena.create(1 << 20, [10_000, 0, 0])


@pytest.mark.parametrize(
    ("offset", "form", "reason"),
    [
        (MAGIC, "<Q", "mark"),
        (LAYOUT_VERSION, "<I", "layout is version"),
        (UID, "<I", "belongs to user"),
        (PID_NAMESPACE, "<Q", "container"),
        (TOTAL_BYTES, "<Q", "size"),
    ],
)
def test_a_header_that_does_not_fit_is_refused_with_the_reason(offset: int, form: str, reason: str) -> None:
    changed = arena()
    os.pwrite(changed.fd, struct.pack(form, 12_345), offset)
    with pytest.raises(_kernel.ArenaCorrupt, match=reason):
        _kernel.Arena.attach(changed.fd)
    changed.leave()


def test_an_untouched_one_is_taken() -> None:
    made = arena()
    taken = _kernel.Arena.attach(made.fd)
    assert taken.session() == b""
    taken.leave()
    made.leave()


def test_another_file_is_refused() -> None:
    with tempfile.TemporaryFile() as small, pytest.raises(_kernel.ArenaCorrupt, match="smaller"):
        _kernel.Arena.attach(small.fileno())
