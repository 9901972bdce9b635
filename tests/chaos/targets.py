"""The processes of a running session as its arena names them: quick to find, and killed without mistake."""

import os
import signal
import time
from typing import NamedTuple

from ray import _kernel
from ray.session import processes

FOREVER_MS = 10_000  # for the arena's mutex: as good as never
POLL_S = 0.001


class Process(NamedTuple):
    pid: int
    started: int  # clock ticks since boot: no other process has both

    def send(self, number: int) -> bool:
        """False if it has ended, or its pid is another's by now."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            found = processes.stat(self.pid)
            if found is None or found[0] in "ZX" or found[2] != self.started:
                return False
            signal.pidfd_send_signal(fd, number)
            return True
        except ProcessLookupError:
            return False
        finally:
            os.close(fd)

    @property
    def state(self) -> str:
        """The letter in /proc/PID/stat; Z when it is gone."""
        found = processes.stat(self.pid)
        return "Z" if found is None or found[2] != self.started else found[0]


class Targets:
    """Looks at an arena from outside, or from the driver itself."""

    def __init__(self, arena: _kernel.Arena) -> None:
        self.arena = arena

    def of_kind(self, *kinds: int) -> list[Process]:
        """The living ones, as the arena has them: who was killed just now may still be among them."""
        return [Process(pid, started) for pid, started, kind, _, _ in self.arena.processes() if kind in kinds]

    def another(self, kind: int, than: Process, timeout_s: float = 10.0) -> Process:
        """Waits for one that has joined in the place of the given one."""
        deadline = time.monotonic() + timeout_s
        while not (found := [each for each in self.of_kind(kind) if each != than and each.state not in "ZX"]):
            assert time.monotonic() < deadline, f"nobody has taken the place of process {than.pid}"
            time.sleep(POLL_S)
        return found[0]

    def handed_on_s(self) -> float:
        """How long it takes until the mutex is to be had: whoever died with it, it must pass on."""
        began = time.monotonic()
        holder = self.arena.lock_holder(FOREVER_MS)
        waited = time.monotonic() - began
        assert holder == 0, f"process {holder} held the mutex for {waited} s"
        return waited
