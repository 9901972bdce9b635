"""What a test may not leave behind: processes, descriptors, threads, shared memory, temporary files.

A session that a wider fixture keeps for several tests is not a test's own: what existed before the
test, or descends from what did, is never counted.
"""

import dataclasses
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

from ray.session import processes

GONE_S = 2.0  # the time that a session has to end
POLL_S = 0.01
SHARED_MEMORY = Path("/dev/shm")
# pytest's own folders, and what numerical libraries keep for themselves once they are used.
OWN_FILES = ("pytest-of-",)
# Of multiprocessing and loky, in whatever else this machine runs: the package makes no file there at all.
OTHERS_SHARED = ("sem.mp-", "sem.loky-")


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All that can leak, at one moment."""

    processes: frozenset[int]
    descriptors: frozenset[tuple[int, str]]
    threads: frozenset[int]
    shared: frozenset[str]
    temporary: frozenset[str]

    @classmethod
    def take(cls) -> "Snapshot":
        return cls(
            processes=frozenset(pid for pid in processes.descendants(os.getpid()) if not _is_zombie(pid)),
            descriptors=frozenset(_descriptors()),
            threads=frozenset(thread.ident or 0 for thread in threading.enumerate()),
            shared=frozenset(
                name for name in os.listdir(SHARED_MEMORY) if not name.startswith(OTHERS_SHARED)
            ),
            temporary=frozenset(
                name for name in os.listdir(tempfile.gettempdir()) if not name.startswith(OWN_FILES)
            ),
        )

    def leaked_since(self, before: "Snapshot") -> dict[str, list[str]]:
        older = set(before.processes)
        for pid in before.processes:
            older |= processes.descendants(pid)
        found = {
            "processes": [f"{pid} {command(pid)}" for pid in self.processes - older],
            "threads": [
                thread.name
                for thread in threading.enumerate()
                if thread.ident in self.threads - before.threads
            ],
            "shared memory": sorted(self.shared - before.shared),
            "temporary files": sorted(self.temporary - before.temporary),
        }
        if not before.processes:
            # With a wider fixture's session under way, its descriptors come and go.
            known = {fd for fd, _ in before.descriptors}
            found["descriptors"] = [f"{fd} {to}" for fd, to in self.descriptors if fd not in known]
        return {kind: names for kind, names in found.items() if names}


def leaks_since(before: Snapshot) -> dict[str, list[str]]:
    """What is left after the time that a session has to end; empty at once when nothing is."""
    deadline = time.monotonic() + GONE_S
    while leaked := Snapshot.take().leaked_since(before):
        if time.monotonic() > deadline:
            return leaked
        time.sleep(POLL_S)
    return {}


def kill_leaked(before: Snapshot) -> None:
    """So that the next test finds a clean house."""
    for pid in Snapshot.take().processes - before.processes:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "(ended)"


def _is_zombie(pid: int) -> bool:
    found = processes.stat(pid)
    return found is None or found[0] in "ZX"


def _descriptors() -> list[tuple[int, str]]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:
            continue  # the listing's own
    return found
