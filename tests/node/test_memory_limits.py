import os
import time
from pathlib import Path

import pytest

from ray.node.memory_limits import RESCAN_MS, MemoryLimits
from ray.policy.memory import Allowance, tightest

MIB = 1 << 20
MACHINE = "this machine"


class Machine:
    """Folders and files that look like those of a machine with 1,000 MiB, of which 400 are in use."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "cgroup"
        self.root.mkdir()
        self.membership = folder / "membership"
        self.membership.write_text("0::/\n")
        self.meminfo = folder / "meminfo"
        self.meminfo.write_text(
            f"MemTotal:  {1000 << 10} kB\nMemFree: {50 << 10} kB\nMemAvailable: {600 << 10} kB\n"
            "HugePages_Total:       0\nCached:      unknown\n"
        )

    def cgroup(self, path: str, **files: object) -> None:
        folder = self.root / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name.replace("_dot_", ".")).write_text(f"{text}\n")

    def limits(self, fraction: float = 0.9) -> MemoryLimits:
        return MemoryLimits(
            fraction, root=str(self.root), membership=str(self.membership), meminfo=str(self.meminfo)
        )

    def allowance(self, path: str, used_mib: int, limit_mib: int) -> Allowance:
        limit = limit_mib * MIB
        return Allowance(f"the cgroup at {self.root / path}", used_mib * MIB, limit, int(limit * 0.9))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def version_2(
    machine: Machine, path: str, limit: object, used_mib: int, cache_mib: int, **more: object
) -> None:
    machine.cgroup(
        path,
        memory_dot_max=limit,
        memory_dot_current=used_mib * MIB,
        memory_dot_stat=f"anon 5\nfile {9 * MIB}\ninactive_file {cache_mib * MIB}\nactive_file {MIB}",
        **more,
    )


def test_the_machine(machine: Machine) -> None:
    expected = Allowance(MACHINE, 400 * MIB, 1000 * MIB, 900 * MIB)
    assert machine.limits().look(0) == [expected]


def test_turned_off(machine: Machine) -> None:
    assert machine.limits(0.0).look(0) == []


def test_version_2_without_what_can_be_taken_back(machine: Machine) -> None:
    machine.membership.write_text("0::/job\n")
    version_2(machine, "job", 200 * MIB, used_mib=150, cache_mib=30)
    assert machine.limits().look(0)[1:] == [machine.allowance("job", 120, 200)]


def test_version_2_without_a_limit(machine: Machine) -> None:
    machine.membership.write_text("0::/job\n")
    version_2(machine, "job", "max", used_mib=150, cache_mib=30)
    assert [each.what for each in machine.limits().look(0)] == [MACHINE]


def test_from_memory_high_on_everything_crawls(machine: Machine) -> None:
    machine.membership.write_text("0::/job\n")
    version_2(machine, "job", "max", used_mib=150, cache_mib=30, memory_dot_high=160 * MIB)
    assert machine.limits().look(0)[1:] == [machine.allowance("job", 120, 160)]


def test_every_limit_on_the_way_up_and_the_tightest(machine: Machine) -> None:
    machine.membership.write_text("0::/outer/inner\n")
    version_2(machine, "outer/inner", 300 * MIB, used_mib=100, cache_mib=0)
    version_2(machine, "outer", 200 * MIB, used_mib=150, cache_mib=0)
    found = machine.limits().look(0)
    outer = machine.allowance("outer", 150, 200)
    assert found[1:] == [machine.allowance("outer/inner", 100, 300), outer]
    assert tightest(found) == outer


def test_version_1(machine: Machine) -> None:
    machine.membership.write_text("4:memory:/job\n1:cpu:/job\n0::/\n")
    machine.cgroup(
        "memory/job",
        memory_dot_limit_in_bytes=200 * MIB,
        memory_dot_usage_in_bytes=150 * MIB,
        memory_dot_stat=f"inactive_file 7\ntotal_inactive_file {40 * MIB}",
    )
    machine.cgroup(
        "memory", memory_dot_limit_in_bytes=9223372036854771712, memory_dot_usage_in_bytes=900 * MIB
    )
    assert machine.limits().look(0)[1:] == [machine.allowance("memory/job", 110, 200)]


def test_a_limit_that_changes_is_seen_in_time(machine: Machine) -> None:
    machine.membership.write_text("0::/job\n")
    version_2(machine, "job", 200 * MIB, used_mib=150, cache_mib=0)
    limits = machine.limits()
    assert limits.look(5)[1].limit_bytes == 200 * MIB
    version_2(machine, "job", 400 * MIB, used_mib=160, cache_mib=0)
    now = limits.look(5 + RESCAN_MS - 1)[1]
    assert (now.limit_bytes, now.used_bytes) == (200 * MIB, 160 * MIB)
    assert limits.look(5 + RESCAN_MS)[1].limit_bytes == 400 * MIB


def test_a_cgroup_that_vanishes(machine: Machine) -> None:
    machine.membership.write_text("0::/job\n")
    version_2(machine, "job", 200 * MIB, used_mib=150, cache_mib=0)
    limits = machine.limits()
    assert len(limits.look(0)) == 2
    (machine.root / "job/memory.current").unlink()
    assert len(limits.look(1)) == 1


def test_here(tmp_path: Path) -> None:
    """On this very machine: memory that is touched counts, the file cache does not."""
    limits = MemoryLimits(1.0)
    before = limits.look(0)[0]
    assert before.limit_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < before.used_bytes < before.limit_bytes
    held = bytearray(b"x") * (1000 * MIB)
    deadline = time.monotonic() + 5  # others use memory as well
    while limits.look(0)[0].used_bytes < before.used_bytes + 500 * MIB:
        assert time.monotonic() < deadline, "a GiB that was touched is not in use"
    del held
