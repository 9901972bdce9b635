"""ray.init: each parameter, what it returns, what it refuses; ray.shutdown and starting again."""

import inspect
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ray
from ray import errors
from tests.api.programs import Programs
from tests.api.test_start import redis_answer

Init = Callable[..., dict[str, Any]]


@ray.remote
def decorated_early(number: int) -> int:
    return number + 1


@ray.remote
class DecoratedEarly:
    def number(self) -> int:
        return 5


@pytest.mark.statement("init-01")
def test_signature() -> None:
    """The text's parameters come first, in its order and with its defaults."""
    expected = {
        "redis_address": None,
        "node_ip_address": None,
        "object_id_seed": None,
        "num_workers": None,
        "driver_mode": 0,
        "redirect_output": False,
        "num_cpus": None,
        "num_gpus": None,
        "num_custom_resource": None,
        "num_redis_shards": None,
        "plasma_directory": None,
        "huge_pages": False,
    }
    parameters = list(inspect.signature(ray.init).parameters.values())
    assert {each.name: each.default for each in parameters[: len(expected)]} == expected
    assert [each.name for each in parameters[: len(expected)]] == list(expected)


@pytest.mark.statement("init-05")
def test_node_ip_address(init: Init) -> None:
    info = init(node_ip_address="127.0.0.2", num_cpus=1)
    assert info["node_ip_address"] == "127.0.0.2"
    assert info["redis_address"].startswith("127.0.0.2:")
    assert ray.get(decorated_early.remote(1)) == 2


SEEDED = """
    import ray, sys
    ray.init(num_cpus=2, object_id_seed={seed})

    @ray.remote
    def child():
        return 1

    @ray.remote
    def parent():
        return [child.remote().hex(), ray.put(0).hex()]

    first = parent.remote()
    print(first.hex(), ray.put(1).hex(), child.remote().hex(), *ray.get(first))
    """


@pytest.mark.statement("init-09", "init-10")
def test_object_id_seed(programs: Programs) -> None:
    """Ids of tasks, of puts, and of what tasks make themselves."""
    first, again, other, unseeded = (
        programs.run(SEEDED.format(seed=seed)).out.split() for seed in (7, 7, 8, None)
    )
    assert len(first) == len(set(first)) == 5
    assert again == first
    assert not set(other) & set(first)
    assert not set(unseeded) & set(first)


@pytest.mark.statement("init-11")
def test_a_second_live_job_with_the_same_seed_is_refused(init: Init, programs: Programs) -> None:
    address = init(num_cpus=1, object_id_seed=7)["redis_address"]
    done = programs.start(f"import ray; ray.init(redis_address={address!r}, object_id_seed=7)").finish()
    assert done.code == 1
    assert "object_id_seed" in done.err
    programs.run(f"import ray; ray.init(redis_address={address!r}, object_id_seed=8)")


@pytest.mark.statement("init-14", "init-15", "more-init-11")
def test_driver_modes(init: Init) -> None:
    assert (ray.SCRIPT_MODE, ray.WORKER_MODE, ray.PYTHON_MODE, ray.SILENT_MODE) == (0, 1, 2, 3)
    for mode in (ray.SCRIPT_MODE, ray.PYTHON_MODE, ray.SILENT_MODE):
        init(driver_mode=mode, num_cpus=1)
        assert ray.get(decorated_early.remote(1)) == 2
        ray.shutdown()
    with pytest.raises(errors.InitError, match="WORKER_MODE"):
        init(driver_mode=ray.WORKER_MODE)
    for unknown in (4, -1, "SCRIPT_MODE", True, None):
        with pytest.raises((errors.InitError, errors.ArgumentTypeError), match="driver_mode"):
            init(driver_mode=unknown)


PRINTING = """
    import os, sys, ray
    ray.init(num_cpus=1, redirect_output={redirect})

    @ray.remote
    def f():
        print("words of a task")
        print("worries of a task", file=sys.stderr)
        os.write(1, b"bytes of a task\\n")

    ray.get(f.remote())
    """


@pytest.mark.statement("init-16")
def test_redirect_output_to_files(programs: Programs) -> None:
    done = programs.run(PRINTING.format(redirect=True))
    assert "of a task" not in done.both
    logs = "".join(path.read_text() for path in programs.temporary.rglob("*") if path.is_file())
    for words in ("words of a task\n", "worries of a task\n", "bytes of a task\n"):
        assert logs.count(words) == 1


@pytest.mark.statement("init-16", "more-init-15")
def test_output_is_seen_at_the_driver_otherwise(programs: Programs) -> None:
    done = programs.run(PRINTING.format(redirect=False))
    for words in ("words of a task\n", "worries of a task\n", "bytes of a task\n"):
        assert done.both.count(words) == 1
    assert not list(programs.temporary.iterdir())


@pytest.mark.statement("init-19", "init-20", "decorator-06", "decorator-07")
def test_num_custom_resource(init: Init, tmp_path: Path) -> None:
    """Three of it: tasks that need two each never run together; one that needs four never runs."""
    init(num_cpus=4, num_custom_resource=3)
    place = str(tmp_path)

    @ray.remote(num_custom_resource=2)
    def alone() -> int:
        mine = os.path.join(place, str(os.getpid()))
        with open(mine, "w"):
            count = len(os.listdir(place))
            time.sleep(0.01)
        os.unlink(mine)
        return count

    assert ray.get([alone.remote() for _ in range(6)]) == [1] * 6
    with pytest.raises(errors.InfeasibleResourcesError, match="custom"):
        alone.options(num_custom_resource=4).remote()


@pytest.mark.statement("init-21")
def test_num_redis_shards(init: Init) -> None:
    info = init(num_cpus=1, num_redis_shards=2)
    assert len(info["redis_shards"]) == 2
    servers = {info["redis_address"], *info["redis_shards"]}
    assert len(servers) == 3
    for address in servers:
        assert redis_answer(address).startswith((b"+PONG", b"-NOAUTH"))


@pytest.mark.statement("more-init-14")
def test_no_redis_shard_beside_the_primary_by_default(init: Init) -> None:
    assert init(num_cpus=1)["redis_shards"] == []


@pytest.mark.statement("init-22")
def test_plasma_directory(init: Init, tmp_path: Path) -> None:
    """The store is mapped from a file there, which has no name any more: nothing can be left of it."""
    init(num_cpus=1, plasma_directory=str(tmp_path))
    kept = ray.get(ray.put(np.arange(100_000)))
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    assert mapped
    assert all(line.endswith("(deleted)") for line in mapped)
    assert list(tmp_path.iterdir()) == []
    assert kept[-1] == 99_999
    del kept
    ray.shutdown()
    with pytest.raises(errors.InitError, match="plasma_directory"):
        init(plasma_directory=str(tmp_path / "missing"))


@pytest.mark.statement("init-23", "init-24", "init-26", "more-init-13")
def test_huge_pages(init: Init, tmp_path: Path) -> None:
    with pytest.raises(errors.InitError, match="plasma_directory"):
        init(huge_pages=True)
    reserved = int(Path("/proc/sys/vm/nr_hugepages").read_text())
    if reserved:
        init(num_cpus=1, huge_pages=True, plasma_directory="/dev/hugepages", object_store_memory=32 << 20)
        assert ray.get(ray.put(1)) == 1
    else:
        with pytest.raises(errors.RayError, match=r"vm\.nr_hugepages"):
            init(num_cpus=1, huge_pages=True, plasma_directory=str(tmp_path), object_store_memory=32 << 20)


@pytest.mark.statement("more-init-02")
def test_object_store_memory(init: Init) -> None:
    init(num_cpus=1, object_store_memory=16 << 20)
    half = ray.put(np.zeros(8 << 20, np.uint8))
    assert ray.get(half).nbytes == 8 << 20
    with pytest.raises(errors.ObjectStoreFullError) as full:
        ray.put(np.zeros(32 << 20, np.uint8))
    assert full.value.wanted_bytes >= 32 << 20
    assert abs(full.value.capacity_bytes - (16 << 20)) <= mmap.PAGESIZE * 16


@pytest.mark.statement("init-26", "init-13", "connect-07")
@pytest.mark.parametrize(
    "argument",
    [
        {"num_workers": 1},
        {"num_cpus": 1},
        {"num_gpus": 1},
        {"num_custom_resource": 1},
        {"num_redis_shards": 1},
        {"plasma_directory": "/tmp"},
        {"huge_pages": True},
        {"object_store_memory": 1 << 30},
    ],
    ids=lambda argument: next(iter(argument)),
)
def test_what_a_cluster_decides_is_refused_with_its_address(init: Init, argument: dict[str, Any]) -> None:
    (name,) = argument
    with pytest.raises(errors.InitError, match=name) as refused:
        init(redis_address="127.0.0.1:6379", **argument)
    assert "existing cluster" in str(refused.value)


@pytest.mark.statement("more-init-16", "init-26")
@pytest.mark.parametrize(
    "argument",
    [
        {"num_cpus": -1},
        {"num_cpus": "two"},
        {"num_gpus": -1},
        {"num_workers": -2},
        {"num_custom_resource": -7},
        {"num_redis_shards": -1},
        {"object_id_seed": "x"},
        {"redirect_output": "yes"},
        {"huge_pages": 1},
        {"plasma_directory": 5},
        {"object_store_memory": -1},
        {"node_ip_address": 127},
    ],
    ids=lambda argument: "-".join(map(str, *argument.items())),
)
def test_senseless_arguments(init: Init, argument: dict[str, Any]) -> None:
    (name,) = argument
    with pytest.raises((errors.InitError, errors.ArgumentTypeError), match=name):
        init(**argument)


@pytest.mark.statement("more-init-07")
def test_a_second_init(init: Init) -> None:
    init(num_cpus=1)
    with pytest.raises(errors.InitError, match=r"twice|second|already"):
        init(num_cpus=1)
    assert ray.get(decorated_early.remote(1)) == 2


@pytest.mark.statement("more-init-08")
def test_calls_before_init(init: Init) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: ray.get([]),
        lambda: ray.put(1),
        lambda: ray.wait([]),
        lambda: ray.error_info(),
        lambda: decorated_early.remote(1),
        lambda: DecoratedEarly.remote(),
        lambda: ray.get_gpu_ids(),
    ]
    for call in calls:
        with pytest.raises(errors.RayConnectionError, match=r"ray\.init\(\)"):
            call()


@pytest.mark.statement("more-init-09", "more-init-10")
@pytest.mark.parametrize("stop", ["shutdown", "cleanup"])
def test_shutdown_and_a_new_init(init: Init, stop: str) -> None:
    end = {"shutdown": ray.shutdown, "cleanup": ray.worker.cleanup}[stop]
    for number in range(2):
        init(num_cpus=1)
        assert ray.get(decorated_early.remote(number)) == number + 1
        assert ray.get(DecoratedEarly.remote().number.remote()) == 5
        end()
        end()  # again: nothing to do
        with pytest.raises(errors.RayConnectionError):
            ray.put(1)


@pytest.mark.statement("more-init-09")
def test_ids_of_an_ended_session_say_so(init: Init) -> None:
    init(num_cpus=1)
    old = ray.put(1)
    ray.shutdown()
    init(num_cpus=1)
    with pytest.raises((errors.ObjectLostError, errors.SessionEndedError)):
        ray.get(old, timeout=5000)
