"""The file to which values go when the object store is full: without a name, so it ends with the session."""

import os

from ray._kernel import Arena, SpillFailed
from ray.core.store import spill_folder

LEAST_BYTES = 16 << 20  # less is not worth a file
MOST_BYTES = 200 << 30  # what the kernel can count in granules, with some room


def open_spill_file(fraction: float) -> tuple[int, int] | None:
    """Its descriptor, which the caller closes, and how many bytes it may take.

    None when the folder has no room, can't be written to, or its file system knows no unnamed files: a full
    store then waits as if there were no disk."""
    folder = spill_folder()
    try:
        space = os.statvfs(folder)
        capacity_bytes = min(int(space.f_bavail * space.f_frsize * fraction), MOST_BYTES)
        if capacity_bytes < LEAST_BYTES:
            return None
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    return fd, capacity_bytes


def give_spill_file(arena: Arena, fraction: float) -> None:
    """Opens it for the arena, if it can be had; the arena keeps it open until this process leaves.

    Raises OSError when this process may open no more files."""
    found = open_spill_file(fraction)
    if found is None:
        return
    fd, capacity_bytes = found
    try:
        arena.set_spill_file(fd, capacity_bytes)
    except SpillFailed as error:
        raise OSError(error.args[0], os.strerror(error.args[0])) from None
    finally:
        os.close(fd)
