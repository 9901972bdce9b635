"""Nothing is left behind, however a driver ends; Ctrl-C, forks and threads."""

import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

import ray
from tests.api.programs import GONE_S, Programs, Running, wait_for

# Tasks that make it hard: one sleeps deaf to SIGTERM, one has started processes of its own, in
# another session; an actor; a value in the store; a task that can't start.
BUSY = """
    import os, signal, subprocess, sys, time
    import ray

    info = ray.init(num_cpus=3)

    @ray.remote
    def deaf():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)

    @ray.remote
    def parent():
        subprocess.Popen(["sleep", "60"], start_new_session=True)
        return subprocess.call(["sh", "-c", "sleep 60 & sleep 60"])

    @ray.remote
    class Actor:
        def pid(self):
            return os.getpid()

    actor = Actor.remote()
    ray.get(actor.pid.remote())
    value = ray.put(bytes(10**7))
    running = [deaf.remote(), parent.remote(), deaf.remote(), deaf.remote()]
    while len([name for name in os.popen("ps -eo args").read().splitlines() if name == "sleep 60"]) < 3:
        time.sleep(0.01)
    print(info["redis_address"], flush=True)
    """

ENDINGS = {
    "return": ("", None, 0),
    "exit": ("sys.exit(3)", None, 3),
    "exception": ("raise ValueError('the program failed')", None, 1),
    "os._exit": ("os._exit(4)", None, 4),
    "Ctrl-C": ("ray.get(running)", signal.SIGINT, -signal.SIGINT),
    "SIGTERM": ("time.sleep(60)", signal.SIGTERM, -signal.SIGTERM),
    "SIGKILL": ("ray.get(running)", signal.SIGKILL, -signal.SIGKILL),
}


def abstract_sockets() -> set[str]:
    lines = Path("/proc/net/unix").read_text().splitlines()
    return {line.rpartition(" ")[2] for line in lines if "@" in line}


def refuses(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as connection:
        return connection.connect_ex((host, int(port))) != 0


@pytest.mark.statement("more-end-01", "more-end-02", "start-02", "script-01", "init-08")
@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_is_left(programs: Programs, ending: str) -> None:
    last_line, number, status = ENDINGS[ending]
    running = programs.start(f"{BUSY.rstrip()}\n    {last_line}\n")
    address = running.line()
    assert len(programs.left()) >= 8  # driver, keeper, template, Redis, node manager, workers, theirs
    port = address.rpartition(":")[2]
    assert any(name.endswith(f"-{port}") for name in abstract_sockets())
    if number is not None:
        running.send(number)
    ended = time.monotonic()
    done = running.finish(10)
    assert done.code == status, done.both
    assert programs.gone(GONE_S)
    assert time.monotonic() - ended < 2 * GONE_S
    # A process loses its environment, by which it is found, a moment before its descriptors.
    assert wait_for(lambda: refuses(address) or None, GONE_S)
    assert wait_for(
        lambda: f"-{port}" not in {name[-len(port) - 1 :] for name in abstract_sockets()} or None, GONE_S
    )
    assert list(programs.temporary.iterdir()) == []
    assert ("the program failed" in done.err) == (ending == "exception")
    for frightening in ("ArenaClosed", "Broken pipe", "Fatal Python", "ConnectionReset"):
        assert frightening not in done.err, done.both


INTERRUPTED = """
    import time, ray
    ray.init(num_cpus=1)

    @ray.remote
    def slow():
        time.sleep(60)

    object_id = slow.remote()
    print("waiting", flush=True)
    began = time.monotonic()
    try:
        {call}
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print(ray.get(ray.put("goes on")), flush=True)
    """


@pytest.mark.quiet
@pytest.mark.statement("more-end-03")
@pytest.mark.parametrize(
    "call",
    [
        "ray.get(object_id)",
        "ray.get([object_id])",
        "ray.wait([object_id])",
        "ray.wait([object_id], timeout=50000)",
    ],
)
def test_ctrl_c_at_once(programs: Programs, call: str) -> None:
    running = programs.start(INTERRUPTED.format(call=call))
    assert running.line() == "waiting"
    wait_until_asleep(running)
    began = time.monotonic()
    running.send(signal.SIGINT)
    assert running.line() == "interrupted"
    assert time.monotonic() - began < 0.5
    assert running.line() == "goes on"
    assert running.finish().code == 0


def wait_until_asleep(running: Running) -> None:
    """The main thread sleeps in the kernel: it is inside the call."""
    deadline = time.monotonic() + 5
    calm = 0
    while calm < 5:
        assert time.monotonic() < deadline
        state = Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()[0]
        calm = calm + 1 if state == "S" else 0
        time.sleep(0.01)


@pytest.mark.statement("more-end-04")
def test_a_fork_in_the_driver(programs: Programs) -> None:
    done = programs.run(
        """
        import os, ray
        ray.init(num_cpus=2)
        kept = ray.put("kept")
        f = ray.remote(lambda: "ran")

        pid = os.fork()
        if pid == 0:
            calls = [lambda: ray.get(kept), lambda: ray.put(1), f.remote, lambda: ray.wait([kept])]
            for call in calls:
                try:
                    call()
                    print("no error")
                except ray.errors.ForkedProcessError as error:
                    print("fork" in str(error))
            del kept, f
            os._exit(0)
        print(os.waitpid(pid, 0)[1], ray.get([kept, f.remote()]), flush=True)

        import multiprocessing
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(abs, [-1, -2]))
        print(ray.get(kept))
        """
    )
    assert done.out.splitlines() == ["True"] * 4 + ["0 ['kept', 'ran']", "[1, 2]", "kept"]


@pytest.mark.statement("more-end-04")
def test_a_forked_child_may_attach_by_itself(programs: Programs) -> None:
    done = programs.run(
        """
        import os, ray
        address = ray.init(num_cpus=2)["redis_address"]
        pid = os.fork()
        if pid == 0:
            ray.init(redis_address=address)
            print(ray.get(ray.remote(lambda: "from the child").remote()), flush=True)
            ray.shutdown()
            os._exit(0)
        print(os.waitpid(pid, 0)[1], ray.get(ray.put("parent")))
        """
    )
    assert done.out.splitlines() == ["from the child", "0 parent"]


@pytest.mark.statement("more-end-05")
def test_threads(cluster: Any) -> None:
    """Eight at once, each with puts, tasks, waits and an actor that they share."""
    import threading

    @ray.remote
    def square(number: int) -> int:
        return number * number

    @ray.remote
    class Sum:
        def __init__(self) -> None:
            self.total = 0

        def add(self, number: int) -> int:
            self.total += number
            return self.total

    shared = Sum.remote()
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for number in range(seed * 100, seed * 100 + 25):
                ids = [square.remote(number), ray.put(number), shared.add.remote(1)]
                ready, rest = ray.wait(ids, num_returns=2, timeout=20_000)
                assert len(ready) == 2
                assert len(rest) == 1
                assert ray.get(ids, timeout=20_000)[:2] == [number * number, number]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert ray.get(shared.add.remote(0), timeout=20_000) == 200
