"""How much memory machine and cgroups allow, and how much of it is in use.

What the system can take back at once, file cache, does not count as used.
"""

from ray.policy.memory import Allowance
from ray.session import machine

MEMINFO = "/proc/meminfo"
RESCAN_MS = 10_000  # a cgroup's limits may be changed while it runs
CGROUP_FILES = (
    # limit, usage, what can be taken back (a line of memory.stat); for version 2, then 1
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.high", "memory.current", "inactive_file"),  # from here on all its processes crawl
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


class MemoryLimits:
    """The machine's memory, and that of every cgroup with a limit from this process's own up to the root."""

    def __init__(
        self,
        fraction: float,
        *,
        root: str = machine.CGROUP_ROOT,
        membership: str = "/proc/self/cgroup",
        meminfo: str = MEMINFO,
    ) -> None:
        """`fraction` of each limit is what may be used before somebody is stopped; 0: there are no limits."""
        self.fraction = fraction
        self._root = root
        self._membership = membership
        self._meminfo = meminfo
        self._limited: list[
            tuple[str, int, str, str]
        ] = []  # folder, its limit, file of its use, line of cache
        self._scanned_ms: int | None = None

    def look(self, now_ms: int) -> list[Allowance]:
        """All of them as they stand now."""
        if not self.fraction:
            return []
        if self._scanned_ms is None or now_ms - self._scanned_ms >= RESCAN_MS:
            self._limited = self._scan()
            self._scanned_ms = now_ms
        found = [self._allowance("this machine", *self._machine())]
        for folder, limit, usage, cache in self._limited:
            used = machine.read_text(f"{folder}/{usage}")
            if used.isdigit():  # a cgroup may be gone
                reclaimable = _lines(machine.read_text(f"{folder}/memory.stat"), " ").get(cache, 0)
                found.append(self._allowance(f"the cgroup at {folder}", int(used) - reclaimable, limit))
        return found

    def _allowance(self, what: str, used: int, limit: int) -> Allowance:
        return Allowance(what, max(used, 0), limit, int(limit * self.fraction))

    def _machine(self) -> tuple[int, int]:
        with open(self._meminfo, encoding="ascii") as table:
            kib = _lines(table.read(), ":")
        total = kib["MemTotal"] << 10
        return total - (kib["MemAvailable"] << 10), total

    def _scan(self) -> list[tuple[str, int, str, str]]:
        limited = []
        # A controller may be mounted under two names that are one.
        for folder in dict.fromkeys(machine.cgroup_folders("memory", self._root, self._membership)):
            for name, usage, cache in CGROUP_FILES:
                limit = machine.read_text(f"{folder}/{name}")
                if limit.isdigit() and int(limit) < machine.NO_LIMIT_BYTES:
                    limited.append((folder, int(limit), usage, cache))
        return limited


def _lines(text: str, separator: str) -> dict[str, int]:
    """Name and number of each line."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(separator)
        number = value.split()
        if number and number[0].isdigit():
            found[name] = int(number[0])
    return found
