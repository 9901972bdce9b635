"""What this machine, and the container it may be in, allow: processors, memory, huge pages."""

import os
from collections.abc import Iterator

CGROUP_ROOT = "/sys/fs/cgroup"
# A cgroup of version 1 says "no limit" with a number near 2^63.
NO_LIMIT_BYTES = 1 << 60


def cpu_count() -> int:
    """Logical processors: the number that `psutil.cpu_count()` gives, without its import (15 ms)."""
    return os.cpu_count() or 1


def affinity_count() -> int:
    """Processors that this process may be scheduled on."""
    return len(os.sched_getaffinity(0))


def cgroup_cpus(root: str = CGROUP_ROOT, membership: str = "/proc/self/cgroup") -> float | None:
    """Processors' worth of time that the cgroup allows; None when it sets no limit."""
    limits = []
    for folder in cgroup_folders("cpu", root, membership):
        both = read_text(f"{folder}/cpu.max").split()
        if len(both) == 2 and both[0] != "max":
            limits.append(int(both[0]) / int(both[1]))
        quota, period = read_text(f"{folder}/cpu.cfs_quota_us"), read_text(f"{folder}/cpu.cfs_period_us")
        if quota and period and int(quota) > 0:
            limits.append(int(quota) / int(period))
    return min(limits, default=None)


def memory_bytes(root: str = CGROUP_ROOT, membership: str = "/proc/self/cgroup") -> int:
    """The least of what machine and cgroup allow."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for folder in cgroup_folders("memory", root, membership):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = read_text(f"{folder}/{name}")
            if text.isdigit() and int(text) < NO_LIMIT_BYTES:
                limits.append(int(text))
    return min(limits)


def huge_pages() -> tuple[int, int]:
    """Free huge pages, and the size of one in bytes."""
    facts = {}
    with open("/proc/meminfo", encoding="ascii") as table:
        for line in table:
            name, _, value = line.partition(":")
            facts[name] = value.split()
    free = facts.get("HugePages_Free", ["0"])
    size = facts.get("Hugepagesize", ["2048"])
    return int(free[0]), int(size[0]) * 1024


def cgroup_folders(controller: str, root: str, membership: str) -> Iterator[str]:
    """The folders, from the process's own cgroup up to the root, whose limits apply (cgroups(7)).

    Some may not exist.
    """
    for line in read_text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mounts = [root, f"{root}/unified"]
        elif controller in controllers.split(","):
            mounts = [f"{root}/{controllers}", f"{root}/{controller}"]
        else:
            continue
        # In a container the path may be the host's, and the mount already be the process's own
        # cgroup: folders that don't exist are read as "no limit".
        for mount in mounts:
            parts = [part for part in path.split("/") if part and part != ".."]
            for length in range(len(parts), -1, -1):
                yield "/".join([mount, *parts[:length]])


def read_text(path: str) -> str:
    """What a file of /sys or /proc says; "" where there is none."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        return ""
