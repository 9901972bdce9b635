"""A cgroup of its own for an attack's driver, with a limit on memory."""

import os
import time
import uuid
from pathlib import Path
from typing import Self

import pytest

from ray.session import machine

GONE_S = 5.0  # for the last process in it to end


class MemoryCgroup:
    """Of either version, below this process's own; skips the test where none can be made."""

    def __init__(self, limit_bytes: int) -> None:
        parent = next(
            (
                Path(folder)
                for folder in machine.cgroup_folders("memory", machine.CGROUP_ROOT, "/proc/self/cgroup")
                if os.path.exists(f"{folder}/cgroup.procs")
            ),
            None,
        )
        if parent is None:
            pytest.skip("there is no cgroup for memory here")
        self.folder = parent / f"ray-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        try:
            self.folder.mkdir()
        except OSError as error:
            pytest.skip(f"no cgroup can be made here: {error}")
        try:
            self._limit(limit_bytes)
        except OSError as error:
            self.folder.rmdir()
            pytest.skip(f"a cgroup's memory can't be limited here: {error}")

    def _limit(self, limit_bytes: int) -> None:
        for name in ("memory.max", "memory.limit_in_bytes"):
            if (self.folder / name).exists():
                (self.folder / name).write_text(str(limit_bytes))
                return
        raise FileNotFoundError(f"{self.folder} has no limit of memory")

    def kills(self) -> int:
        """How many processes the system has killed in it."""
        for name in ("memory.events", "memory.oom_control"):
            if (self.folder / name).exists():
                lines = dict(line.split() for line in (self.folder / name).read_text().splitlines())
                return int(lines["oom_kill"])
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for its last process to end."""
        deadline = time.monotonic() + GONE_S
        while (self.folder / "cgroup.procs").read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.folder.rmdir()
