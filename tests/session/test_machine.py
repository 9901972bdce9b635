from pathlib import Path

import psutil
import pytest

from ray.session import machine


class Cgroups:
    """A folder that looks like /sys/fs/cgroup, and a file that looks like /proc/self/cgroup."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "cgroup"
        self.membership = folder / "membership"
        self.root.mkdir()

    def set(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    def join(self, *lines: str) -> None:
        self.membership.write_text("\n".join(lines) + "\n")

    def cpus(self) -> float | None:
        return machine.cgroup_cpus(str(self.root), str(self.membership))

    def memory(self) -> int:
        return machine.memory_bytes(str(self.root), str(self.membership))


@pytest.fixture
def cgroups(tmp_path: Path) -> Cgroups:
    return Cgroups(tmp_path)


def test_no_limit_anywhere(cgroups: Cgroups) -> None:
    cgroups.join("0::/")
    assert cgroups.cpus() is None
    assert cgroups.memory() == psutil.virtual_memory().total


def test_version_2(cgroups: Cgroups) -> None:
    cgroups.join("0::/outer/inner")
    cgroups.set("outer/inner/cpu.max", "150000 100000")
    cgroups.set("outer/inner/memory.max", "104857600")
    assert cgroups.cpus() == 1.5
    assert cgroups.memory() == 100 << 20


def test_version_2_without_limits(cgroups: Cgroups) -> None:
    cgroups.join("0::/outer")
    cgroups.set("outer/cpu.max", "max 100000")
    cgroups.set("outer/memory.max", "max")
    assert cgroups.cpus() is None
    assert cgroups.memory() == psutil.virtual_memory().total


def test_the_tightest_limit_on_the_way_up_counts(cgroups: Cgroups) -> None:
    cgroups.join("0::/outer/inner")
    cgroups.set("outer/cpu.max", "50000 100000")
    cgroups.set("outer/inner/cpu.max", "400000 100000")
    cgroups.set("outer/memory.max", "1048576")
    cgroups.set("outer/inner/memory.max", "2097152")
    assert cgroups.cpus() == 0.5
    assert cgroups.memory() == 1 << 20


def test_version_1(cgroups: Cgroups) -> None:
    cgroups.join("4:memory:/job", "1:cpu,cpuacct:/job", "0::/")
    cgroups.set("cpu,cpuacct/job/cpu.cfs_quota_us", "200000")
    cgroups.set("cpu,cpuacct/job/cpu.cfs_period_us", "100000")
    cgroups.set("memory/job/memory.limit_in_bytes", "209715200")
    assert cgroups.cpus() == 2
    assert cgroups.memory() == 200 << 20


def test_version_1_without_limits(cgroups: Cgroups) -> None:
    cgroups.join("4:memory:/", "1:cpu:/")
    cgroups.set("cpu/cpu.cfs_quota_us", "-1")
    cgroups.set("cpu/cpu.cfs_period_us", "100000")
    cgroups.set("memory/memory.limit_in_bytes", "9223372036854771712")
    assert cgroups.cpus() is None
    assert cgroups.memory() == psutil.virtual_memory().total


def test_a_container_that_sees_only_its_own_part(cgroups: Cgroups) -> None:
    """The membership names the host's path, the mount is already the container's cgroup."""
    cgroups.join("0::/../../machine/container")
    cgroups.set("cpu.max", "100000 100000")
    cgroups.set("memory.max", "52428800")
    assert cgroups.cpus() == 1
    assert cgroups.memory() == 50 << 20


def test_huge_pages_of_this_machine() -> None:
    free, page_bytes = machine.huge_pages()
    assert free >= 0
    assert page_bytes >= 1 << 20
