"""Connecting to an existing cluster: a second process, with nothing but the address."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ray
from ray import errors
from tests.api.programs import Programs

GUIDE = Path(__file__).parents[2] / "docs" / "guide"
PROMPT_S = 10.0  # what "soon" is for an address that never answers

Init = Callable[..., dict[str, Any]]


@pytest.mark.statement(
    "start-03",
    "connect-01",
    "connect-03",
    "connect-04",
    "connect-05",
    "init-02",
    "init-03",
    "init-04",
    "init-06",
)
@pytest.mark.statement("more-init-04", "remote-06")
def test_a_second_process_attaches_and_shares_objects(cluster: dict[str, Any], programs: Programs) -> None:
    shared = ray.put({"from": "the first"})
    done = programs.run(
        """
        import sys, ray
        info = ray.init(redis_address=sys.argv[1])
        print(info["redis_address"] == sys.argv[1])
        print(ray.get(ray.ObjectID(bytes.fromhex(sys.argv[2]))))
        print(ray.get(ray.remote(lambda x: x * 2).remote(21)))
        """,
        cluster["redis_address"],
        shared.hex(),
    )
    assert done.out.splitlines() == ["True", "{'from': 'the first'}", "42"]
    assert ray.get(shared) == {"from": "the first"}


@pytest.mark.statement("connect-02", "connect-03", "more-init-05")
def test_one_that_attached_starts_and_stops_nothing(cluster: dict[str, Any], programs: Programs) -> None:
    running = programs.start(
        """
        import sys, ray
        ray.init(redis_address=sys.argv[1])
        print(ray.get(ray.put(1)), flush=True)
        sys.stdin.read()
        """,
        cluster["redis_address"],
    )
    other = programs.start(
        "import sys, ray; ray.init(redis_address=sys.argv[1]); print(ray.get(ray.put(2)))",
        cluster["redis_address"],
    )
    assert running.line() == "1"
    assert other.line() == "2"
    assert running.finish().code == 0
    assert other.finish().code == 0
    assert ray.get(ray.remote(lambda: 3).remote()) == 3


@pytest.mark.statement("more-init-05", "more-errors-05")
def test_a_killed_one_stops_nothing_either(cluster: dict[str, Any], programs: Programs) -> None:
    running = programs.start(
        """
        import sys, time, ray
        ray.init(redis_address=sys.argv[1])

        @ray.remote
        def fails():
            raise ValueError("only for its own driver")

        ready, _ = ray.wait([fails.remote()])
        kept = ray.put(bytes(100_000))
        print(len(ray.error_info()), flush=True)
        time.sleep(60)
        """,
        cluster["redis_address"],
    )
    assert running.line() == "1"
    os.kill(running.pid, 9)
    running.finish()
    assert ray.get(ray.remote(lambda: 3).remote()) == 3
    assert not any("only for its own driver" in str(each) for each in ray.error_info())


@pytest.mark.statement("more-init-17")
def test_later_names(cluster: dict[str, Any], programs: Programs) -> None:
    assert ray.ObjectRef is ray.ObjectID
    assert ray.is_initialized()
    assert ray.cluster_resources()["CPU"] == 2
    (node,) = ray.nodes()
    assert node["alive"]
    assert node["node_ip_address"] == cluster["node_ip_address"]
    assert ray.get(ray.remote(lambda: ray.nodes()).remote()) == [node]
    done = programs.run(
        "import sys, ray; ray.init(address=sys.argv[1]); print(ray.cluster_resources()['CPU'])",
        cluster["redis_address"],
    )
    assert done.out == "2.0\n"


@pytest.mark.statement("connect-06", "more-init-06")
@pytest.mark.parametrize("address", ["12.345.67.89:6379", "127.0.0.1:1", "no-such-host.invalid:6379"])
def test_an_address_where_nobody_listens(init: Init, address: str) -> None:
    """The text's own address is no IP address at all."""
    began = time.monotonic()
    with pytest.raises(errors.RayConnectionError) as nobody:
        init(redis_address=address)
    assert time.monotonic() - began < PROMPT_S
    assert address.partition(":")[0] in str(nobody.value)


@pytest.mark.statement("init-26", "more-init-16")
@pytest.mark.parametrize("address", ["", "127.0.0.1", ":", "127.0.0.1:port", "127.0.0.1:99999"])
def test_what_is_no_address(init: Init, address: str) -> None:
    with pytest.raises((errors.ArgumentError, errors.RayConnectionError), match="address"):
        init(redis_address=address)


@pytest.mark.statement("connect-08")
def test_the_guide_has_the_instructions() -> None:
    page = (GUIDE / "clusters.md").read_text()
    assert "redis_address" in page
    assert "several machines" in page
