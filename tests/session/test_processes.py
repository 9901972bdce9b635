import errno
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ray.session import end, processes
from ray.session.names import SESSION_VARIABLE

DOUBLE_FORK = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(1, b"%d\\n" % os.getpid())
        time.sleep(60)
    os._exit(0)
os.wait()
os.write(1, b"middle gone\\n")
time.sleep(60)
"""


def wait_until(holds: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.005)


SHORT_TURNS = """
import ctypes, os, struct
from ray.session import processes

def attributes():
    number = {"x86_64": 315, "aarch64": 275}[os.uname().machine]
    buffer = ctypes.create_string_buffer(48)
    assert ctypes.CDLL(None).syscall(number, 0, buffer, 48, 0) == 0
    return struct.unpack("IIQiIQQQ", buffer.raw)

before = attributes()
processes.take_short_turns()
after = attributes()
assert before[:5] == after[:5]  # policy and nice among them
print(before[5], after[5])
"""


def test_stat_of_this_process() -> None:
    found = processes.stat(os.getpid())
    assert found is not None
    assert found[0] == "R"
    assert found[1] == os.getppid()
    assert processes.is_alive(os.getpid(), found[2])
    assert not processes.is_alive(os.getpid(), found[2] + 1)


def test_a_process_of_another_user_that_is_not_shown_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with hidepid, proc(5): there is no file to read, and no right to signal it."""

    def refuse(pid: int, signum: int) -> None:
        raise PermissionError(errno.EPERM, "not permitted")

    gone = 4_194_304  # above any process's number
    assert not processes.is_alive(gone, 1)
    monkeypatch.setattr(os, "kill", refuse)
    assert processes.is_alive(gone, 1)


def test_stat_survives_any_name() -> None:
    before = Path("/proc/self/comm").read_text().strip()
    try:
        processes.set_name("a) R 1 (x\t)")
        found = processes.stat(os.getpid())
    finally:
        processes.set_name(before)
    assert found is not None
    assert found[1] == os.getppid()


def test_a_process_that_was_reaped_is_gone_and_a_zombie_is_not_alive() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    with_pidfd = os.pidfd_open(child)
    select.select([with_pidfd], [], [])
    os.close(with_pidfd)
    found = processes.stat(child)
    assert found is not None
    assert not processes.is_alive(child, found[2])
    os.waitpid(child, 0)
    assert processes.stat(child) is None


def test_descendants_and_the_sessions_variable_find_what_double_forks() -> None:
    token = os.urandom(8).hex()
    environment = {**os.environ, SESSION_VARIABLE: token}
    program = subprocess.Popen(
        [sys.executable, "-c", DOUBLE_FORK], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout is not None
        lines = [program.stdout.readline().strip() for _ in range(2)]
        orphan = int(next(line for line in lines if line.isdigit()))
        # Its parent is init by now, so that it is no descendant; the variable tells.
        assert program.pid in processes.descendants(os.getpid())
        assert orphan not in processes.descendants(program.pid)
        assert processes.of_session(token) == {program.pid, orphan}
        assert end.kill_until_none(
            lambda: {pid for pid in processes.of_session(token) if pid != program.pid}, 2.0
        )
        assert processes.stat(orphan) is None or processes.stat(orphan)[0] == "Z"  # type: ignore[index]
    finally:
        program.kill()
        program.communicate()


def test_the_variable_is_matched_whole() -> None:
    assert processes.of_session("") == set()


def test_a_child_is_told_of_its_parents_death() -> None:
    read, write = os.pipe()
    middle = os.fork()
    if middle == 0:
        parent = os.getpid()
        if os.fork() == 0:
            processes.signal_on_parent_death(parent, signal.SIGKILL)
            os.write(write, str(os.getpid()).encode())
            time.sleep(60)
        time.sleep(60)
        os._exit(0)
    child = int(os.read(read, 20))
    os.kill(middle, signal.SIGKILL)
    os.waitpid(middle, 0)
    wait_until(lambda: processes.stat(child) is None or processes.stat(child)[0] == "Z")  # type: ignore[index]
    os.close(read)
    os.close(write)


def test_a_child_whose_parent_is_gone_already_ends() -> None:
    child = os.fork()
    if child == 0:
        processes.signal_on_parent_death(os.getppid() + 1, signal.SIGKILL)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_keep_only_closes_all_others_and_hides_the_kept_from_programs() -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            extra = os.open("/dev/null", os.O_RDONLY)
            os.set_inheritable(write, True)
            processes.keep_only(write)
            kept = {int(fd) for fd in os.listdir("/proc/self/fd")}
            assert {0, 1, 2, write} <= kept
            assert extra not in kept or extra == write
            assert read not in kept or not _is_pipe(read)
            assert not os.get_inheritable(write)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(read)
    os.close(write)


def _is_pipe(fd: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:")
    except FileNotFoundError:
        return False


def test_killing_stops_when_nothing_is_found_and_says_so() -> None:
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    alive = {child}

    def unreaped() -> set[int]:
        if alive and os.waitpid(child, os.WNOHANG)[0]:
            alive.clear()
        return set(alive)

    assert end.kill_until_none(unreaped, 2.0)


def test_killing_gives_up_after_its_time() -> None:
    assert not end.kill_until_none(lambda: {2**22 - 1}, 0.05)


@pytest.mark.parametrize("timeout_s", [0.0, 0.05])
def test_waiting_for_deaths_ends_in_time(timeout_s: float) -> None:
    began = time.monotonic()
    end.wait_for_deaths({os.getpid()}, timeout_s)
    assert timeout_s <= time.monotonic() - began + 0.001 < timeout_s + 1.0


def test_the_score_for_the_out_of_memory_killer() -> None:
    before = int(Path("/proc/self/oom_score_adj").read_text())
    code = (
        "import subprocess\n"
        "from ray.session import processes\n"
        "processes.set_oom_score(900)\n"
        "subprocess.run(['cat', '/proc/self/oom_score_adj'])\n"
        "processes.set_oom_score(-2000)\n"  # there is none so low: nothing changes, nothing is raised
        "subprocess.run(['cat', '/proc/self/oom_score_adj'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["900", "900"]
    assert int(Path("/proc/self/oom_score_adj").read_text()) == before


@pytest.mark.skipif(
    tuple(map(int, os.uname().release.split(".")[:2])) < (6, 12), reason="Linux before 6.12 has no such turns"
)
def test_short_turns_are_asked_for_and_nothing_else_changes() -> None:
    command = ["nice", "-n", "3", sys.executable, "-c", SHORT_TURNS]
    before, after = map(int, subprocess.run(command, check=True, capture_output=True).stdout.split())
    assert before > after == processes.TURN_NS
