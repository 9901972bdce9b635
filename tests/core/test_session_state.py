"""One session a process: before it, after it, twice, and in a forked child."""

import os
from collections.abc import Callable
from typing import Any

import pytest

import ray
from ray.core import session_state
from ray.errors import ForkedProcessError, InitError, ObjectLostError, RayConnectionError


@ray.remote
def f() -> int:
    return 1


@ray.remote
def same(x: Any) -> Any:
    return x


@ray.remote
class Actor:
    def call(self) -> int:
        return 2


CALLS: dict[str, Callable[[], Any]] = {
    "ray.get": lambda: ray.get([]),
    "ray.put": lambda: ray.put(1),
    "ray.wait": lambda: ray.wait([]),
    "ray.error_info": lambda: ray.error_info(),
    "ray.get_gpu_ids": lambda: ray.get_gpu_ids(),
    "ray.nodes": lambda: ray.nodes(),
    "ray.cluster_resources": lambda: ray.cluster_resources(),
    "ray.available_resources": lambda: ray.available_resources(),
    "ray.timeline": lambda: ray.timeline(),
    "f.remote": lambda: f.remote(),
    "Actor.remote": lambda: Actor.remote(),
}


@pytest.mark.parametrize("name", CALLS)
def test_before_init_each_call_names_itself_and_init(name: str) -> None:
    with pytest.raises(RayConnectionError, match=r"ray\.init") as caught:
        CALLS[name]()
    assert name in str(caught.value)


def test_decorated_before_used_in_one_session_after_the_other() -> None:
    for mode in (ray.SILENT_MODE, ray.PYTHON_MODE, ray.SILENT_MODE):
        ray.init(num_cpus=1, driver_mode=mode)
        try:
            assert ray.is_initialized()
            with pytest.raises(InitError, match="shutdown"):
                ray.init()
            actor = Actor.remote()
            assert ray.get([f.remote(), actor.call.remote()]) == [1, 2]
        finally:
            ray.shutdown()
        assert not ray.is_initialized()
        with pytest.raises(RayConnectionError):
            actor.call.remote()
    ray.shutdown()
    ray.worker.cleanup()


@pytest.mark.parametrize("mode", [ray.SILENT_MODE, ray.PYTHON_MODE])
def test_an_id_of_an_ended_session_is_refused(mode: int) -> None:
    ray.init(num_cpus=1, driver_mode=mode)
    old = ray.put(1)
    actor = Actor.remote()
    ray.shutdown()
    ray.init(num_cpus=1, driver_mode=mode)
    try:
        new = ray.put(2)
        for call in (
            lambda: ray.get(old),
            lambda: ray.get([new, old]),
            lambda: ray.wait([new, old], num_returns=2),
            lambda: same.remote(old),
            lambda: same.remote(x=old),
        ):
            with pytest.raises(ObjectLostError) as lost:
                call()
            assert lost.value.object_id == old.hex()
        with pytest.raises(ObjectLostError, match=actor._ray_actor.hex()):
            actor.call.remote()
        assert ray.get(f.remote()) == 1
    finally:
        ray.shutdown()


def test_a_forked_child_is_told_and_the_parent_is_well() -> None:
    ray.init(num_cpus=1)
    try:
        oid = f.remote()
        assert ray.get(oid) == 1
        child = os.fork()
        if child == 0:
            status = 0
            for number, call in enumerate([lambda: ray.get(oid), lambda: f.remote(), lambda: ray.put(1)]):
                try:
                    call()
                    status |= 1 << number
                except ForkedProcessError as error:
                    status |= 0 if "redis_address" in str(error) else 8
                except BaseException:
                    status |= 16
            ray.shutdown()  # ends nothing of the parent's
            os._exit(status)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert ray.get([oid, f.remote()]) == [1, 1]
    finally:
        ray.shutdown()


def test_what_has_died_is_not_remembered_for_ever() -> None:
    class Member:
        forgotten = 0

        def forget(self) -> None:
            Member.forgotten += 1

    remembered = session_state.Remembered()
    kept = [Member() for _ in range(100)]
    for member in kept:
        remembered.add(member)
    for _ in range(10_000):
        remembered.add(Member())
    assert len(remembered._members) <= 2 * len(kept) + session_state.FEW_REMEMBERED
    remembered.forget()
    assert Member.forgotten == len(kept)
    remembered.forget()
    assert Member.forgotten == len(kept)
