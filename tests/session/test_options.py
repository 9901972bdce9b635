import inspect
import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from ray.core.resources import INFINITE
from ray.errors import ArgumentError, ArgumentTypeError, InitError, RayConnectionError, RayError
from ray.session import machine
from ray.session.addresses import Address, check_is_local, resolve_host
from ray.session.options import STARTING_ONLY, SessionOptions

from_init = SessionOptions.from_init
ADDRESS = "127.0.0.1:6379"
# One acceptable value for each argument that only a start takes.
STARTING_VALUES: dict[str, Any] = {
    "num_workers": 1,
    "num_cpus": 1,
    "num_gpus": 0,
    "num_custom_resource": 0,
    "num_redis_shards": 1,
    "plasma_directory": "/tmp",
    "huge_pages": True,
    "object_store_memory": 1 << 20,
}


def test_defaults() -> None:
    options = from_init()
    assert options.redis_address is None
    assert options.num_cpus == options.num_workers == psutil.cpu_count()
    assert (options.num_gpus, options.num_custom_resource, options.num_redis_shards) == (0, 0, 0)
    assert options.node_ip_address == "127.0.0.1"
    assert options.driver_mode == 0
    assert options.object_store_bytes == int(machine.memory_bytes() * 0.3)
    assert not options.redirect_output


def test_every_parameter_of_the_text_is_accepted_by_name_and_in_its_order() -> None:
    text_order = [
        "redis_address",
        "node_ip_address",
        "object_id_seed",
        "num_workers",
        "driver_mode",
        "redirect_output",
        "num_cpus",
        "num_gpus",
        "num_custom_resource",
        "num_redis_shards",
        "plasma_directory",
        "huge_pages",
    ]
    assert list(inspect.signature(from_init).parameters)[: len(text_order)] == text_order


def test_resources_are_in_the_kernels_units() -> None:
    assert from_init(num_cpus=3, num_gpus=2, num_custom_resource=7).resources == (30_000, 20_000, 70_000)
    assert from_init(num_custom_resource=-1).resources[2] == INFINITE


@pytest.mark.parametrize("name", STARTING_ONLY)
def test_what_a_start_decides_is_refused_when_joining(name: str) -> None:
    with pytest.raises(InitError, match=name) as raised:
        from_init(redis_address=ADDRESS, **{name: STARTING_VALUES[name]})
    assert "existing cluster" in str(raised.value)


def test_starting_values_cover_all_that_is_refused() -> None:
    assert set(STARTING_VALUES) == set(STARTING_ONLY)


def test_all_refused_arguments_are_named_at_once() -> None:
    with pytest.raises(InitError, match="num_cpus and num_gpus"):
        from_init(redis_address=ADDRESS, num_cpus=2, num_gpus=1)


def test_what_may_be_given_when_joining() -> None:
    options = from_init(
        redis_address=ADDRESS,
        node_ip_address="127.0.0.1",
        object_id_seed=5,
        driver_mode=3,
        redirect_output=True,
    )
    assert options.redis_address == Address("127.0.0.1", 6379)


def test_address_is_an_alias() -> None:
    assert from_init(address=ADDRESS).redis_address == Address("127.0.0.1", 6379)
    with pytest.raises(InitError, match="two names"):
        from_init(address=ADDRESS, redis_address=ADDRESS)


def test_huge_pages_need_a_directory() -> None:
    with pytest.raises(InitError, match="plasma_directory"):
        from_init(huge_pages=True)


def test_worker_mode_is_not_the_users() -> None:
    with pytest.raises(InitError, match="WORKER_MODE"):
        from_init(driver_mode=1)


@pytest.mark.parametrize("mode", [4, -1, 17])
def test_unknown_modes_are_refused(mode: int) -> None:
    with pytest.raises(InitError, match="SCRIPT_MODE"):
        from_init(driver_mode=mode)


def test_python_mode_joins_nothing() -> None:
    with pytest.raises(InitError, match="PYTHON_MODE"):
        from_init(driver_mode=2, redis_address=ADDRESS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_cpus", "2"),
        ("num_cpus", True),
        ("num_cpus", 1.5),
        ("num_cpus", float("nan")),
        ("num_gpus", [1]),
        ("num_workers", "many"),
        ("num_custom_resource", 0.5),
        ("num_redis_shards", "1"),
        ("object_store_memory", "1G"),
        ("redis_address", 6379),
        ("node_ip_address", 127),
        ("object_id_seed", "seed"),
        ("object_id_seed", True),
        ("driver_mode", "SCRIPT_MODE"),
        ("driver_mode", None),
        ("redirect_output", 1),
        ("huge_pages", "yes"),
        ("plasma_directory", 3),
        ("config", 3),
    ],
)
def test_wrong_types_are_named(name: str, value: object) -> None:
    with pytest.raises(ArgumentTypeError) as raised:
        from_init(**{name: value})
    assert name in str(raised.value) or name == "config"


@pytest.mark.parametrize(
    "name", ["num_cpus", "num_gpus", "num_workers", "num_redis_shards", "object_store_memory"]
)
def test_negative_numbers_are_refused(name: str) -> None:
    with pytest.raises(InitError, match=name):
        from_init(**{name: -1})


def test_custom_resource_below_minus_one_is_refused() -> None:
    with pytest.raises(InitError, match="num_custom_resource"):
        from_init(num_custom_resource=-2)


def test_infinite_numbers_are_refused() -> None:
    with pytest.raises(RayError, match="num_cpus"):
        from_init(num_cpus=float("inf"))


def test_whole_floats_are_numbers() -> None:
    assert from_init(num_cpus=2.0).num_cpus == 2


def test_seeds_may_be_of_any_size_and_sign() -> None:
    assert from_init(object_id_seed=-(10**30)).object_id_seed == -(10**30)


def test_a_store_has_a_least_size() -> None:
    with pytest.raises(InitError, match="bytes"):
        from_init(object_store_memory=1000)


def test_plasma_directory_must_be_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file, tmp_path / "missing"):
        with pytest.raises(InitError, match="not a folder"):
            from_init(plasma_directory=str(path))
    assert from_init(plasma_directory=tmp_path).plasma_directory == str(tmp_path)  # type: ignore[arg-type]


def test_settings_can_be_overridden() -> None:
    assert from_init(config={"worker_limit": 5}).config.worker_limit == 5
    with pytest.raises(ArgumentError, match="worker_limit"):
        from_init(config={"workers_limit": 5})


def test_workers_at_the_start_stay_within_the_limit() -> None:
    assert from_init(num_cpus=50, config={"worker_limit": 5}).num_workers == 5


def test_a_smaller_affinity_or_cgroup_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_count", lambda: 64)
    monkeypatch.setattr(machine, "affinity_count", lambda: 16)
    monkeypatch.setattr(machine, "cgroup_cpus", lambda: 2.5)
    options = from_init()
    (line,) = options.notices
    assert options.num_cpus == 64
    assert "16" in line
    assert "2.5" in line
    assert "num_cpus=3" in line
    assert from_init(num_cpus=64).notices == ()


def test_nothing_is_reported_where_all_processors_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "affinity_count", machine.cpu_count)
    monkeypatch.setattr(machine, "cgroup_cpus", lambda: float(machine.cpu_count()))
    assert from_init().notices == ()


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1", ":6379", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:70000", "h:x"]
)
def test_addresses_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(InitError, match="host:port"):
        Address.parse(text)


def test_host_names_are_resolved() -> None:
    assert str(Address.parse("localhost:6379")) == "127.0.0.1:6379"
    assert from_init(node_ip_address="localhost").node_ip_address == "127.0.0.1"
    assert str(Address.parse("[::1]:6379")) == "[::1]:6379"


def test_an_unknown_host_is_named() -> None:
    with pytest.raises(RayConnectionError, match=r"no-such-host\.invalid"):
        resolve_host("no-such-host.invalid", "redis_address")


def test_a_node_address_must_be_this_machines() -> None:
    check_is_local("127.0.0.1")
    check_is_local("127.0.0.2")
    with pytest.raises(InitError, match=r"192\.0\.2\.1"):
        check_is_local("192.0.2.1")  # TEST-NET-1: nobody's


def test_count_of_processors_is_psutils() -> None:
    assert machine.cpu_count() == psutil.cpu_count()
    assert machine.affinity_count() == len(os.sched_getaffinity(0))
