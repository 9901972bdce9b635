"""Hosts of their own: network namespaces joined by veth and a bridge, which only root can make."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import pytest

from tests.api.programs import Programs

NETWORK = "10.231.77"


class Host:
    """One host: what its programs send goes through the other end of its cable."""

    def __init__(self, name: str, address: str, programs: Programs) -> None:
        self.cable = f"{name}c"
        self.address = address
        self.programs = programs

    def cut(self) -> None:
        _run("ip", "link", "set", self.cable, "down")

    def mend(self) -> None:
        _run("ip", "link", "set", self.cable, "up")

    def make_slow(self, rate: str, queue_ms: int) -> None:
        """What goes to it: so fast at most; what would wait longer than `queue_ms` is lost."""
        _run(
            "tc", "qdisc", "replace", "dev", self.cable, "root",
            "tbf", "rate", rate, "burst", "16kb", "latency", f"{queue_ms}ms",
        )  # fmt: skip

    def make_fast(self) -> None:
        _run("tc", "qdisc", "del", "dev", self.cable, "root")

    def lost_packets(self) -> int:
        said = _run("tc", "-s", "qdisc", "show", "dev", self.cable)
        return int(said.partition("dropped ")[2].split(",")[0])


@cache
def why_not() -> str:
    """Why there can be no hosts here; "" if there can."""
    if os.getuid() != 0:
        return "only root makes network namespaces"
    try:
        with _made(f"ray{os.getpid()}t", 1):
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network of namespaces can be made here: {getattr(error, 'stderr', error)}"


@contextmanager
def hosts(count: int, folder: Path) -> Iterator[list[Host]]:
    """So many hosts that reach each other. Skips the test where there can be none."""
    if reason := why_not():
        pytest.skip(reason)
    with ExitStack() as stack:
        names = stack.enter_context(_made(f"ray{os.getpid()}", count))
        made = []
        for number, name in enumerate(names, 1):
            own = folder / name
            own.mkdir()
            programs = stack.enter_context(Programs(own, become=["ip", "netns", "exec", name]))
            made.append(Host(name, f"{NETWORK}.{number}", programs))
        yield made


@contextmanager
def _made(name: str, count: int) -> Iterator[list[str]]:
    """A bridge, and namespaces with a cable to it. All of it goes in the end, with whoever is in it."""
    bridge = f"{name}b"
    names = [f"{name}{number}" for number in range(count)]
    with ExitStack() as stack:
        _run("ip", "link", "add", bridge, "type", "bridge")
        stack.callback(_run, "ip", "link", "del", bridge)
        _run("ip", "link", "set", bridge, "up")
        for number, host in enumerate(names, 1):
            _run("ip", "netns", "add", host)
            stack.callback(_run, "ip", "netns", "del", host)
            cable = f"{host}c"
            _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", host)
            stack.callback(_run, "ip", "link", "del", cable)
            _run("ip", "link", "set", cable, "master", bridge, "up")
            _run("ip", "-n", host, "addr", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _run("ip", "-n", host, "link", "set", device, "up")
        yield names


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
