"""What is done once in a while: burying the dead that nobody reaps, ending jobs, giving disk space back.

The dead are attached drivers, and processes that lost template and keeper.

The template buries its workers at once, with their exit status. Here a process must have been dead for
a whole sweep before it is buried, so that the template always comes first.
"""

import asyncio
import contextlib
import os
import signal

from ray import _kernel
from ray.node.job_end import JobEnd
from ray.session import jobs, processes

# Nobody has seen how it ended; what leaves no trace was most likely killed.
UNKNOWN_STATUS = -signal.SIGKILL


TRIM_BYTES = 1 << 30  # in one sweep: tens of milliseconds


class Sweeper:
    def __init__(self, arena: _kernel.Arena, sweep_ms: int) -> None:
        self.arena = arena
        self.sweep_s = sweep_ms / 1000
        self.kinds: dict[int, int] = {}  # what each process is, as of the last sweep; read by the lock watch
        self._watched: dict[tuple[int, int], int] = {}  # drivers by pid and start time: their pidfds
        self._dead: set[tuple[int, int]] = set()  # found dead in the last sweep
        self._ended: set[tuple[int, int]] = set()  # drivers whose pidfds have told so since the last sweep
        self._spilled_bytes = 0  # ever, as of the last sweep
        self._job_end = JobEnd(arena)
        self._look = asyncio.Event()

    async def run(self) -> None:
        """Until the arena is shut."""
        try:
            while not self.arena.is_shut:
                self.sweep()
                stats = self.arena.stats()
                with contextlib.suppress(OSError):  # no more files, say: again in the next sweep
                    self._job_end.look(stats["jobs_ended"])
                self.trim(stats["spilled_bytes"])
                try:
                    await asyncio.wait_for(self._look.wait(), self.sweep_s)
                except TimeoutError:
                    continue
                self._look.clear()
        except _kernel.ArenaClosed:
            return
        finally:
            for identity in list(self._watched):
                self._unwatch(identity)

    def look_now(self) -> None:
        """Jobs of other nodes' drivers have ended, say."""
        self._look.set()

    def sweep(self) -> None:
        """Looks at every process of the arena once."""
        found = self.arena.processes()
        self.kinds = {pid: kind for pid, _, kind, _, _ in found}
        dead = set()
        for pid, start_time, kind, _, _ in found:
            identity = (pid, start_time)
            if identity not in self._ended and processes.is_alive(pid, start_time):
                if kind == _kernel.DRIVER and identity not in self._watched:
                    self._watch(identity)
            elif kind == _kernel.DRIVER or identity in self._dead:
                # A driver is nobody's child here.
                self._unwatch(identity)
                self._bury(pid, kind)
            else:
                dead.add(identity)
        self._dead = dead
        self._ended.clear()

    def trim(self, spilled_bytes: int) -> None:
        """Gives the disk back what values have left in the spill file, while nobody writes to that: who does
        takes those places first, and they are cheaper as they are."""
        if spilled_bytes and spilled_bytes == self._spilled_bytes:
            self.arena.trim_spill_file(TRIM_BYTES)
        self._spilled_bytes = spilled_bytes

    def _bury(self, pid: int, kind: int) -> None:
        if self.arena.bury(pid, UNKNOWN_STATUS) and kind == _kernel.DRIVER:
            jobs.write_end(self.arena, pid)

    def _watch(self, identity: tuple[int, int]) -> None:
        """Wakes the sweep at the moment a driver dies."""
        try:
            fd = os.pidfd_open(identity[0])
        except ProcessLookupError:
            return  # the next sweep sees it
        self._watched[identity] = fd
        asyncio.get_running_loop().add_reader(fd, self._died, identity)

    def _died(self, identity: tuple[int, int]) -> None:
        self._unwatch(identity)
        self._ended.add(identity)
        self._look.set()

    def _unwatch(self, identity: tuple[int, int]) -> None:
        fd = self._watched.pop(identity, None)
        if fd is not None:
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)
