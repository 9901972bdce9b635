"""Looking at a running session from outside: which of its processes is which."""

import json
import socket
import textwrap
from pathlib import Path

from ray import _kernel
from ray.session import handshake, processes
from ray.session.record import SessionRecord
from tests.api.programs import Running, wait_for

# The head of a driver that reports its address and then does what the test says.
PRELUDE = """
import json, os, subprocess, sys, time
import ray

@ray.remote
def pid():
    return os.getpid()

@ray.remote
def nap(seconds):
    time.sleep(seconds)
    return os.getpid()

@ray.remote
def leave_orphans():
    # A child, a grandchild whose parent has ended, and one in a session of its own without our environment.
    subprocess.Popen(["sleep", "1000"])
    subprocess.run(["sh", "-c", "sleep 1001 & sleep 1002 >/dev/null 2>&1 &"])
    subprocess.Popen(["env", "-i", "/bin/sh", "-c", "sleep 1003 & wait"], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(1004)
        os._exit(0)
    os.wait()
    return True

info = ray.init(num_cpus=2)
print(json.dumps(info), flush=True)
"""


def driver(*parts: str) -> str:
    """The text of a program: the prelude and these parts, each with an indentation of its own."""
    return "".join([PRELUDE, *(textwrap.dedent(part) + "\n" for part in parts)])


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def port_is_free(address: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port_of(address))) != 0


class Family:
    """The processes of the session that a driver has started; found by descent."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.driver = running.pid
        self.info = json.loads(running.line())
        self.keeper = self.only("ray-keeper")

    def named(self, name: str) -> set[int]:
        return {pid for pid in processes.descendants(self.driver) if name_of(pid) == name}

    def only(self, name: str) -> int:
        """Waits for the one process of this name."""
        # A child that was forked just now still has its parent's name.
        found = wait_for(lambda: pids if len(pids := self.named(name)) == 1 else None, 5.0)
        assert found is not None, f"{name}: {self.named(name)}"
        return found.pop()

    def another(self, name: str, than: int) -> int:
        """Waits for one that has taken the place of the given one."""
        found = wait_for(lambda: (self._in_office(name) - {than}) or None, 5.0)
        assert found is not None, f"no new {name}"
        return found.pop()

    def _in_office(self, name: str) -> set[int]:
        """Of that name; not a child that a template had just forked when it died, which has its name yet."""
        pids = self.named(name)
        if name != "ray-template":
            return pids
        return pids & {pid for pid, _, kind, *_ in self.arena().processes() if kind == _kernel.TEMPLATE}

    def everyone(self) -> set[int]:
        """The keeper and all its descendants."""
        return processes.descendants(self.keeper) | {self.keeper}

    def arena(self) -> _kernel.Arena:
        """The session's arena, mapped as one who attaches maps it; to look at, not joined."""
        with handshake.connect(port_of(self.info["redis_address"]), 2.0) as admitted:
            return _kernel.Arena.attach(admitted.arena_fd)

    def record(self) -> SessionRecord:
        return SessionRecord.load(self.arena().session())


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def all_gone(pids: set[int], timeout_s: float = 2.0) -> bool:
    def look() -> bool | None:
        return all((found := processes.stat(pid)) is None or found[0] in "ZX" for pid in pids) or None

    return wait_for(look, timeout_s) is not None
