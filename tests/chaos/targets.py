"""The processes of a running session as its arena names them: quick to find, and killed without mistake."""

import os
import signal
import time
from typing import NamedTuple

from ray import _kernel
from ray.session import processes
from tests.api.programs import wait_for

FOREVER_MS = 10_000  # for the arena's mutex: as good as never
JOINED_S = 20.0  # a service that takes longer has failed


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

    def stop(self) -> bool:
        """Returns when all its threads stand still; False if it has ended."""
        if not self.send(signal.SIGSTOP):
            return False
        deadline = time.monotonic() + JOINED_S
        while not all(state in "TZX" for state in self._threads()):
            assert time.monotonic() < deadline, f"process {self.pid} does not stop"
            time.sleep(0)
        return self.state == "T"

    def _threads(self) -> list[str]:
        states = []
        try:
            for thread in os.listdir(f"/proc/{self.pid}/task"):
                with open(f"/proc/{self.pid}/task/{thread}/stat") as file:
                    states.append(file.read().rpartition(")")[2].split()[0])
        except (FileNotFoundError, ProcessLookupError):
            states.append("Z" if self.state in "ZX" else "R")  # one has ended just now: to be looked at again
        return states


class Targets:
    """Looks at an arena from outside, or from the driver itself."""

    def __init__(self, arena: _kernel.Arena) -> None:
        self.arena = arena

    def of_kind(self, *kinds: int) -> list[Process]:
        """The living ones, as the arena has them: who was killed just now may still be among them."""
        return [Process(pid, started) for pid, started, kind, _, _ in self.arena.processes() if kind in kinds]

    def only(self, kind: int) -> Process:
        """Waits for the one of this kind: a service that was started just now has yet to join."""
        found = wait_for(
            lambda: next((each for each in self.of_kind(kind) if each.state not in "ZX"), None), JOINED_S
        )
        assert found is not None, "a service has not joined"
        return found

    def another(self, kind: int, than: Process) -> Process:
        """Waits for one that has joined in the place of the given one, which is about to die."""
        assert wait_for(lambda: than.state in "ZX" or None, JOINED_S), f"process {than.pid} does not die"
        return self.only(kind)

    def handed_on_s(self) -> float:
        """How long it takes until the mutex is to be had: whoever died with it, it must pass on."""
        began = time.monotonic()
        holder = self.arena.lock_holder(FOREVER_MS)
        waited = time.monotonic() - began
        assert holder == 0, f"process {holder} held the mutex for {waited} s"
        return waited
