"""What a task may demand: CPUs, GPUs, shares of them, a fresh worker after some calls."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ray
from ray import errors
from tests.api.meeting import meet
from tests.api.programs import Programs

Init = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    ray.shutdown()
    ray.init(num_cpus=4, num_gpus=2)
    yield
    ray.shutdown()


def most_together(place: Path, options: dict[str, Any], tasks: int) -> int:
    """How many of these tasks were ever running at the same time, as they saw it themselves."""

    @ray.remote(**options)
    def inside() -> int:
        mine = place / str(os.getpid())
        mine.touch()
        count = len(os.listdir(place))
        time.sleep(0.01)
        count = max(count, len(os.listdir(place)))
        mine.unlink()
        return count

    return max(ray.get([inside.remote() for _ in range(tasks)]))


@pytest.mark.statement("decorator-04")
def test_num_cpus_of_a_task(tmp_path: Path) -> None:
    assert most_together(tmp_path, {"num_cpus": 2}, 16) == 2
    assert most_together(tmp_path, {"num_cpus": 4}, 8) == 1
    assert ray.get([ray.remote(meet).remote(str(tmp_path), 4) for _ in range(4)]) == [True] * 4


@pytest.mark.statement("decorator-05")
def test_num_gpus_of_a_task(tmp_path: Path) -> None:
    assert most_together(tmp_path, {"num_cpus": 0, "num_gpus": 1}, 16) == 2
    assert most_together(tmp_path, {"num_cpus": 0, "num_gpus": 2}, 8) == 1


@pytest.mark.statement("more-resources-04")
def test_fractions(tmp_path: Path) -> None:
    """Eight tasks of half a CPU on four CPUs; a ninth waits."""
    run = ray.remote(num_cpus=0.5)(meet)
    assert ray.get([run.remote(str(tmp_path), 8) for _ in range(8)]) == [True] * 8
    for path in tmp_path.iterdir():
        path.unlink()
    assert most_together(tmp_path, {"num_cpus": 0, "num_gpus": 0.5}, 20) <= 4


@pytest.mark.statement("more-resources-05")
def test_an_impossible_demand_is_reported_at_once() -> None:
    @ray.remote(num_cpus=5, num_gpus=1)
    def greedy() -> None: ...

    with pytest.raises(errors.InfeasibleResourcesError, match="greedy") as refused:
        greedy.remote()
    assert refused.value.asked["CPU"] == 5
    assert refused.value.asked["GPU"] == 1
    assert refused.value.available["CPU"] == 4
    assert refused.value.available["GPU"] == 2

    @ray.remote(num_gpus=3)
    class Greedy:
        def method(self) -> None: ...

    with pytest.raises(errors.InfeasibleResourcesError, match="Greedy"):
        Greedy.remote()


@ray.remote
def visible() -> tuple[list[int], str | None]:
    return ray.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.mark.statement("more-resources-02")
def test_gpu_ids() -> None:
    (one, shown) = ray.get(visible.options(num_gpus=1).remote())
    assert one in ([0], [1])
    assert shown == str(one[0])
    both, shown = ray.get(visible.options(num_gpus=2).remote())
    assert sorted(both) == [0, 1]
    assert shown == ",".join(map(str, both))
    assert ray.get(visible.remote()) == ([], "")


@pytest.mark.statement("more-resources-02")
def test_two_tasks_never_share_a_gpu_that_each_has_whole(tmp_path: Path) -> None:
    @ray.remote(num_gpus=1)
    def mine() -> tuple[bool, list[int]]:
        return meet(str(tmp_path), 2), ray.get_gpu_ids()

    (met, first), (also_met, second) = ray.get([mine.remote(), mine.remote()])
    assert met
    assert also_met
    assert sorted(first + second) == [0, 1]


@pytest.mark.statement("more-resources-02")
def test_an_actor_keeps_its_gpu_for_life() -> None:
    @ray.remote(num_gpus=1)
    class Holder:
        def gpus(self) -> list[int]:
            return ray.get_gpu_ids()

    holders = [Holder.remote(), Holder.remote()]
    ids = ray.get([holder.gpus.remote() for holder in holders])
    assert sorted(ids) == [[0], [1]]
    assert ray.get([holder.gpus.remote() for holder in holders]) == ids
    waiting = visible.options(num_gpus=1).remote()
    assert ray.wait([waiting], timeout=200) == ([], [waiting])
    del holders
    assert len(ray.get(waiting, timeout=10_000)[0]) == 1


@pytest.mark.statement("more-resources-02")
def test_gpu_ids_follow_a_setting_from_outside(programs: Programs) -> None:
    done = programs.run(
        """
        import os, ray
        ray.init(num_cpus=1, num_gpus=2)

        @ray.remote(num_gpus=2)
        def visible():
            return os.environ["CUDA_VISIBLE_DEVICES"]

        print(sorted(ray.get(visible.remote()).split(",")))
        """,
        env={"CUDA_VISIBLE_DEVICES": "4,6"},
    )
    assert done.out == "['4', '6']\n"


@pytest.mark.statement("more-resources-03")
@pytest.mark.parametrize("setting", ["3", None])
def test_the_variable_is_left_alone_without_gpus(programs: Programs, setting: str | None) -> None:
    done = programs.run(
        """
        import os, ray
        ray.init(num_cpus=1)
        print(ray.get(ray.remote(lambda: os.environ.get("CUDA_VISIBLE_DEVICES")).remote()))
        """,
        env={} if setting is None else {"CUDA_VISIBLE_DEVICES": setting},
    )
    assert done.out == f"{os.environ.get('CUDA_VISIBLE_DEVICES') if setting is None else setting}\n"


@pytest.mark.statement("decorator-08")
def test_max_calls() -> None:
    """A worker ends after three of these; the tasks' results all come."""

    @ray.remote(max_calls=3)
    def pid() -> int:
        return os.getpid()

    pids = ray.get([pid.remote() for _ in range(20)])
    assert max(pids.count(each) for each in pids) <= 3
    assert len(set(pids)) >= 7


@pytest.mark.statement("more-resources-01")
def test_a_deep_recursion_on_two_cpus(init: Init) -> None:
    init(num_cpus=2)
    try:

        @ray.remote
        def depth(left: int) -> int:
            return 1 + int(ray.get(depth.remote(left - 1))) if left else 0

        assert ray.get(depth.remote(100), timeout=60_000) == 100
    finally:
        ray.shutdown()
        ray.init(num_cpus=4, num_gpus=2)  # what the other tests of this module expect
