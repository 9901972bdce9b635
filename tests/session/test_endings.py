"""However a driver ends, in two seconds nothing of its session is left, what its tasks started included."""

import os
import signal
import time
from pathlib import Path

import pytest

from ray.session import handshake
from tests.api.programs import Programs, Running, wait_for
from tests.session.family import Family, all_gone, driver, port_is_free, port_of

BUSY = """
ray.get(leave_orphans.remote())
naps = [nap.remote(1000) for _ in range(2)]
print("ready", flush=True)
"""
IDLE = """
ray.get(leave_orphans.remote())
print("ready", flush=True)
"""
UNTIL_RELEASED = """
while not os.path.exists("release"):
    time.sleep(0.01)
"""
WAYS_OUT = {
    "return": "",
    "exception": "raise RuntimeError('the driver fails')",
    "sys.exit": "sys.exit(3)",
    "os._exit": "os._exit(4)",
    "shutdown": "ray.shutdown()",
    "abort": "os.abort()",
    "exec": "os.execv('/bin/true', ['true'])",
}


def nothing_left(family: Family, members: set[int]) -> None:
    assert all_gone(members), f"left: {[pid for pid in members if not all_gone({pid}, 0)]}"
    assert port_is_free(family.info["redis_address"])
    assert handshake.open_sockets(port=port_of(family.info["redis_address"])) == []


def started(programs: Programs, *parts: str) -> tuple[Running, Family, set[int]]:
    """The driver, its session, and all of the session's processes once it has said that it is ready."""
    running = programs.start(driver(*parts))
    family = Family(running)
    assert running.line() == "ready"
    family.only("ray-node")
    members = family.everyone()
    # Keeper, template, node manager, Redis, a worker, and the orphans of its task.
    assert len(members) >= 9, members
    return running, family, members


def release(programs: Programs) -> None:
    (programs.folder / "release").touch()


@pytest.mark.parametrize("way", WAYS_OUT)
def test_a_driver_that_ends_by_itself(programs: Programs, way: str) -> None:
    running, family, members = started(programs, BUSY, UNTIL_RELEASED, WAYS_OUT[way])
    release(programs)
    running.finish()
    nothing_left(family, members)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGSEGV])
def test_a_driver_that_is_killed(programs: Programs, number: int) -> None:
    running, family, members = started(programs, BUSY, "ray.get(naps)")
    running.send(number)
    assert running.finish().code == -number
    nothing_left(family, members)


@pytest.mark.parametrize(
    "call", ["ray.get(naps)", "ray.wait(naps, num_returns=2)", "ray.get(naps[0])", "time.sleep(1000)"]
)
def test_ctrl_c_works_at_once(programs: Programs, call: str) -> None:
    running, family, members = started(programs, BUSY, call)
    time.sleep(0.1)  # into the call
    began = time.monotonic()
    running.send(signal.SIGINT)
    done = running.finish()
    assert time.monotonic() - began < 1.5
    assert done.code == -signal.SIGINT
    assert "KeyboardInterrupt" in done.err
    nothing_left(family, members)


def test_ctrl_c_in_a_terminal_reaches_the_driver_alone(programs: Programs) -> None:
    """The terminal sends SIGINT to its whole foreground group; no process of the session is in it."""
    source = """
    try:
        time.sleep(1000)
    except KeyboardInterrupt:
        print(ray.get(pid.remote()) > 0, flush=True)
    """
    running, family, members = started(programs, IDLE, source)
    own_group = os.getpgid(running.pid)
    assert own_group not in {os.getpgid(pid) for pid in members}
    os.killpg(own_group, signal.SIGINT)
    assert running.line() == "True"
    assert running.finish().code == 0
    nothing_left(family, members)


def test_stopped_processes_are_no_obstacle(programs: Programs) -> None:
    running, family, members = started(programs, BUSY, UNTIL_RELEASED)
    for name in ("ray-worker", "ray-template", "ray-node", "valkey-server"):
        for member in family.named(name):
            os.kill(member, signal.SIGSTOP)
    release(programs)
    running.finish()
    nothing_left(family, members)


def test_a_stopped_keeper_is_ended_by_its_driver(programs: Programs) -> None:
    running, family, members = started(programs, BUSY, UNTIL_RELEASED)
    os.kill(family.keeper, signal.SIGSTOP)
    release(programs)
    running.finish()
    nothing_left(family, members)


def test_a_killed_driver_with_forked_children(programs: Programs) -> None:
    """A child of the driver's own holds copies of all its descriptors; the session ends all the same."""
    source = """
    if os.fork() == 0:
        time.sleep(3)
        os._exit(0)
    print("forked", flush=True)
    time.sleep(1000)
    """
    running, family, members = started(programs, IDLE, source)
    assert running.line() == "forked"
    running.send(signal.SIGKILL)
    running.finish()
    nothing_left(family, members)
    assert wait_for(lambda: programs.gone(0.1) or None, 5.0)


def test_a_child_that_the_driver_forked_does_not_end_its_session(programs: Programs) -> None:
    source = """
    child = os.fork()
    if child == 0:
        sys.exit(0)  # runs what is registered for the exit
    os.waitpid(child, 0)
    assert ray.get(pid.remote()) > 0
    """
    programs.run(driver(source))


def test_what_a_worker_printed_last_is_not_lost(programs: Programs) -> None:
    source = """
    @ray.remote
    def say(text):
        sys.stdout.write(text)

    ray.get(say.remote("last words"))
    """
    assert "last words" in programs.run(driver(source)).out


def test_init_and_shutdown_in_turn_keep_no_descriptor(programs: Programs) -> None:
    source = """
    import os
    import ray

    def once():
        ray.init(num_cpus=1)
        ray.shutdown()
        return sorted(os.listdir("/proc/self/fd"))

    first = once()
    for _ in range(5):
        assert once() == first
    """
    programs.run(source)


@pytest.mark.parametrize("after_s", [0.002, 0.01, 0.03, 0.06, 0.1])
def test_a_start_that_is_interrupted_leaves_nothing(programs: Programs, after_s: float) -> None:
    source = f"""
    import contextlib
    import signal
    import ray

    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, {after_s})
    with contextlib.suppress(KeyboardInterrupt):
        ray.init(num_cpus=1)
        signal.setitimer(signal.ITIMER_REAL, 0)
    """
    done = programs.start(source).finish()
    # Python itself remembers an interrupt inside of exec(), as in dataclasses, though it was caught.
    assert done.code in (0, -signal.SIGINT), done.both
    assert done.err == ""
    assert programs.gone()


def test_no_command_line_and_no_environment_shows_the_password(programs: Programs) -> None:
    running, family, members = started(programs, BUSY, UNTIL_RELEASED)
    password = family.record().redis_password.encode()
    assert len(password) >= 32
    for pid in members | {running.pid}:
        assert password not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert password not in Path(f"/proc/{pid}/environ").read_bytes()
    release(programs)
    running.finish()
