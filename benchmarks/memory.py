"""Memory and processor time of a process with all its descendants, from /proc (proc(5))."""

import contextlib
import os
import re
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc")
MARK = "RAYCORE_BENCHMARK"  # in the environment of everything that a benchmark starts
ANONYMOUS = re.compile(r"^Anonymous: +(\d+) kB$", re.M)
SHARED = re.compile(r"^(/memfd:|/dev/shm/)")
MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ ([0-9a-f]+):([0-9a-f]+) (\d+) +(\S.*)?$")


def family(root: int | None = None) -> set[int]:
    """Of this process, or of another: itself, its descendants, and those that carry its mark.

    A daemon that has left the tree is found by the mark, one that has cleared its environment by the tree.
    """
    root = root or os.getpid()
    mark = _mark_of(root)
    parents: dict[int, int] = {}
    found = {root}
    for path in PROC.glob("[0-9]*"):
        pid = int(path.name)
        try:
            parents[pid] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if mark and _mark_of(pid) == mark:
                found.add(pid)
        except (OSError, IndexError):
            continue  # gone
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def marked() -> dict[str, str]:
    """An environment with a mark of its own."""
    return {**os.environ, MARK: uuid.uuid4().hex}


def marked_with(mark: str) -> set[int]:
    wanted = f"{MARK}={mark}".encode()
    return {int(path.name) for path in PROC.glob("[0-9]*") if _mark_of(int(path.name)) == wanted}


def _mark_of(pid: int) -> bytes:
    try:
        variables = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return b""
    return next((each for each in variables if each.startswith(MARK.encode() + b"=")), b"")


def cpu_seconds(pids: set[int]) -> float:
    """Time on a processor so far, of all threads that live."""
    total = 0
    for pid in pids:
        for path in (PROC / str(pid) / "task").glob("*/schedstat"):
            try:
                total += int(path.read_text().split()[0])
            except OSError:
                continue
    return total / 1e9


def anonymous(pids: set[int]) -> dict[int, int]:
    """Bytes of each process's own memory, whoever else shares it by a fork.

    A share (PSS) of libraries and of forked memory changes with every other process that comes or ends;
    this changes with what the process itself does.
    """
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):  # ended meanwhile
            rollup = (PROC / str(pid) / "smaps_rollup").read_text()
            found[pid] = sum(int(kib) << 10 for kib in ANONYMOUS.findall(rollup))
    return found


@dataclass
class Memory:
    """In bytes.  `private`: each process's share (PSS) of all but shared memory; `shared`: what of memory
    files is there, mapped by somebody or not."""

    private: dict[int, int] = field(default_factory=dict)
    shared: int = 0

    @property
    def total(self) -> int:
        return sum(self.private.values()) + self.shared

    def __sub__(self, before: "Memory") -> "Memory":
        """Growth; of a process that is new, all of it."""
        grown = {pid: nbytes - before.private.get(pid, 0) for pid, nbytes in self.private.items()}
        return Memory(grown, self.shared - before.shared)

    @classmethod
    def of_family(cls, root: int | None = None) -> "Memory":
        return cls.of_processes(family(root))

    @classmethod
    def of_processes(cls, pids: set[int]) -> "Memory":
        private: dict[int, int] = {}
        mapped: dict[tuple[int, int], int] = defaultdict(int)  # bytes in page tables, by device and inode
        present: dict[tuple[int, int], int] = {}
        for pid in pids:
            try:
                smaps = (PROC / str(pid) / "smaps").read_text()
                present.update(_memory_files(pid))
            except OSError:
                continue  # ended meanwhile
            private[pid] = 0
            file: tuple[int, int] | None = None
            for line in smaps.splitlines():
                if match := MAPPING.match(line):
                    major, minor, inode, path = match.groups()
                    shared = SHARED.match(path or "")
                    file = (os.makedev(int(major, 16), int(minor, 16)), int(inode)) if shared else None
                elif line.startswith("Pss:"):
                    nbytes = int(line.split()[1]) << 10
                    if file is None:
                        private[pid] += nbytes
                    else:
                        mapped[file] += nbytes
        files = mapped.keys() | present.keys()
        return cls(private, sum(max(mapped.get(file, 0), present.get(file, 0)) for file in files))


def _memory_files(pid: int) -> dict[tuple[int, int], int]:
    """Bytes that the memory files hold which the process has open."""
    found = {}
    for path in (PROC / str(pid) / "fd").iterdir():
        try:
            if SHARED.match(os.readlink(path)):
                status = path.stat()
                found[status.st_dev, status.st_ino] = status.st_blocks * 512
        except OSError:
            continue
    return found
