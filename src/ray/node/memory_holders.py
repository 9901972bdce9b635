"""Who holds memory: the session's processes, what each of them holds by itself, and the object store.

Memory that processes share counts once: the store by itself, and what a worker has from its template
with the template.
"""

import os
from typing import NamedTuple

from ray import _kernel
from ray.policy.memory import Rank, Worker
from ray.session import processes

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
STAT_BLOCK_BYTES = 512  # stat(2)


class Running(NamedTuple):
    """One entry of `Arena.running`."""

    pid: int
    started: int
    kind: int
    key: int
    function_id: bytes
    job: int
    since_ns: int
    retriable: bool
    stops: int


def private_bytes(pid: int) -> int:
    """Memory of a process that is no file's and not shared by mapping; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            resident, shared = file.read().split()[1:3]
    except (OSError, ValueError):
        return 0
    return max(int(resident) - int(shared), 0) * PAGE_BYTES


def store_bytes(arena: _kernel.Arena) -> int:
    """What the object store takes, and the tables beside it."""
    return os.fstat(arena.fd).st_blocks * STAT_BLOCK_BYTES


class Holders:
    """The processes of one session as they were when this was made; what they hold is read anew each time."""

    def __init__(self, arena: _kernel.Arena, keeper: int) -> None:
        self.arena = arena
        kinds = {pid: kind for pid, _, kind, _, _ in arena.processes()}
        self.drivers = {pid for pid, kind in kinds.items() if kind == _kernel.DRIVER}
        self.template = next((pid for pid, kind in kinds.items() if kind == _kernel.TEMPLATE), 0)
        self.running: dict[int, Running] = {each[0]: Running(*each) for each in arena.running()}
        self.trees = processes.trees({keeper, *self.running})
        self.everyone = self.trees[keeper] | self.drivers

    def session_bytes(self) -> int:
        """What the session takes in all, nearly: whether a page is still shared after a fork is not asked."""
        inherited = private_bytes(self.template)
        held = store_bytes(self.arena)
        for pid in self.everyone:
            own = private_bytes(pid)
            held += max(own - inherited, 0) if pid in self.running else own
        return held

    def workers(self) -> list[Worker]:
        """Each worker with what it and the processes it has started hold, beside what it was born with."""
        inherited = private_bytes(self.template)
        return [self._worker(each, inherited) for each in self.running.values()]

    def _worker(self, running: Running, inherited: int) -> Worker:
        held = sum(private_bytes(pid) for pid in self.trees[running.pid])
        rank = _rank(running.kind, running.retriable)
        since = running.started if rank == Rank.ACTOR else running.since_ns
        return Worker(
            running.pid, running.key, rank, max(held - inherited, 0), since, running.stops, running.retriable
        )

    def largest(self, but: int, count: int, everybody: bool) -> list[tuple[int, int]]:
        """Pid and bytes of those that hold most, other than that worker and its own; of the whole machine
        if `everybody`."""
        pids = self.everyone
        if everybody:
            pids = pids | {int(entry) for entry in os.listdir("/proc") if entry.isdigit()}
        found = sorted(((private_bytes(pid), pid) for pid in pids - self.trees.get(but, set())), reverse=True)
        return [(pid, held) for held, pid in found[:count]]


def _rank(kind: int, retriable: bool) -> Rank:
    if not kind:
        return Rank.IDLE
    if kind == _kernel.TASK:
        return Rank.RETRIABLE if retriable else Rank.ONCE
    return Rank.ACTOR
