"""Starting and stopping a cluster within a script: what is there in between, and who runs what."""

import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import ray
from ray.errors import InfeasibleResourcesError
from tests.api.meeting import meet
from tests.api.programs import Programs, wait_for

Init = Callable[..., dict[str, Any]]


def redis_answer(address: str) -> bytes:
    """What the server says to a PING without a password."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(200)


def session_processes() -> list[str]:
    """The command lines of all descendants of this process."""
    return [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]


@pytest.mark.statement("start-01", "start-02", "script-01", "script-05", "init-02", "init-08", "more-end-01")
def test_a_script_starts_everything_and_its_end_stops_it(programs: Programs) -> None:
    running = programs.start(
        """
        import ray, sys
        info = ray.init()
        print(info["redis_address"])
        print(ray.get(ray.remote(lambda: 6 * 7).remote()), flush=True)
        """
    )
    address = running.line()
    assert running.line() == "42"
    assert running.finish().code == 0
    assert programs.gone()
    with pytest.raises(OSError, match="refused"):
        redis_answer(address)


@pytest.mark.statement("script-02", "init-07", "init-25", "more-init-03")
def test_the_processes_and_addresses(init: Init) -> None:
    info = init(num_cpus=2)
    assert set(info) == {
        "node_ip_address",
        "redis_address",
        "redis_shards",
        "object_store_addresses",
        "local_scheduler_socket_names",
        "webui_url",
    }
    assert len(info["object_store_addresses"]) == 1
    assert len(info["local_scheduler_socket_names"]) == 1
    assert redis_answer(info["redis_address"]).startswith((b"+PONG", b"-NOAUTH"))
    ray.get(ray.remote(lambda: None).remote())  # local scheduler, object store and some workers
    found = wait_for(lambda: [line for line in session_processes() if "redis" in line or "valkey" in line], 5)
    assert found, session_processes()


@pytest.mark.statement("script-03")
def test_a_script_has_one_machine(init: Init) -> None:
    """Its address is the loopback's: nobody outside the machine can take part."""
    info = init(num_cpus=1)
    assert info["node_ip_address"] == "127.0.0.1"
    assert info["redis_address"].startswith("127.0.0.1:")
    port = int(info["redis_address"].rpartition(":")[2])
    listening = {
        connection.laddr.ip
        for connection in psutil.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
    }
    assert listening == {"127.0.0.1"}


@pytest.mark.statement("script-09")
def test_the_defaults_are_psutils_cpus_and_no_gpu(init: Init) -> None:
    init()
    cpus = psutil.cpu_count()
    assert ray.get(ray.remote(num_cpus=cpus)(os.getpid).remote())
    with pytest.raises(InfeasibleResourcesError) as many:
        ray.remote(num_cpus=cpus + 1)(os.getpid).remote()
    assert many.value.available["CPU"] == cpus
    with pytest.raises(InfeasibleResourcesError) as gpu:
        ray.remote(num_gpus=1)(os.getpid).remote()
    assert gpu.value.available.get("GPU", 0) == 0


@pytest.mark.statement("script-06", "script-07", "init-17", "init-18")
def test_num_cpus_and_num_gpus(init: Init) -> None:
    init(num_cpus=3, num_gpus=2)
    with pytest.raises(InfeasibleResourcesError) as many:
        ray.remote(num_cpus=4, num_gpus=5)(os.getpid).remote()
    assert many.value.available["CPU"] == 3
    assert many.value.available["GPU"] == 2
    assert many.value.asked["CPU"] == 4
    assert many.value.asked["GPU"] == 5


@pytest.mark.statement("script-10", "init-12", "more-init-12")
def test_num_workers_is_no_limit(init: Init, tmp_path: Path) -> None:
    init(num_workers=1, num_cpus=4)
    together = ray.remote(meet)
    assert ray.get([together.remote(str(tmp_path), 4) for _ in range(4)]) == [True] * 4


@pytest.mark.statement("script-10")
def test_blocked_tasks_do_not_hold_workers(init: Init) -> None:
    """More tasks wait in get than there are CPUs, and what they wait for runs."""
    init(num_cpus=2)

    @ray.remote
    def leaf(number: int) -> int:
        return number

    @ray.remote
    def parent(number: int) -> int:
        return int(ray.get(leaf.remote(number)))

    assert ray.get([parent.remote(number) for number in range(20)], timeout=20_000) == list(range(20))


@pytest.mark.statement("script-11")
def test_no_more_tasks_run_than_there_are_cpus(init: Init, tmp_path: Path) -> None:
    """Six workers, but two CPUs."""
    init(num_cpus=2, num_workers=6)
    place = str(tmp_path)

    @ray.remote
    def inside() -> int:
        mine = os.path.join(place, str(os.getpid()))
        with open(mine, "w"):
            count = len(os.listdir(place))
            time.sleep(0.01)
        os.unlink(mine)
        return count

    assert max(ray.get([inside.remote() for _ in range(40)])) == 2


@pytest.mark.statement("init-12")
def test_num_workers_are_started_up_front(init: Init) -> None:
    from ray._kernel import current

    init(num_workers=3, num_cpus=1)
    arena = current()
    assert arena is not None
    assert wait_for(lambda: arena.stats()["workers"] == 3 or None, 10), arena.stats()


@pytest.mark.statement("more-init-01")
def test_a_smaller_affinity_is_reported_in_one_line(programs: Programs) -> None:
    source = """
        import os, sys, ray
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        ray.init()
        ray.shutdown()
        """
    if (psutil.cpu_count() or 1) < 2:
        pytest.skip("one CPU can't be limited further")
    done = programs.run(source)
    (line,) = done.err.strip().splitlines()
    assert "affinity" in line
    assert "num_cpus=1" in line
    assert done.out == ""


@pytest.mark.statement("remote-04", "remote-03", "remote-02", "remote-01")
def test_tasks_run_in_worker_processes_of_the_session(init: Init) -> None:
    init(num_cpus=2)

    @ray.remote
    def where() -> tuple[int, str]:
        return os.getpid(), sys.executable

    pids = {ray.get(where.remote())[0] for _ in range(5)}
    assert os.getpid() not in pids
    assert all(psutil.pid_exists(pid) for pid in pids)
    assert ray.get(where.remote())[1] == sys.executable
    ray.shutdown()
    assert wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids) or None, 2)
