"""ray.get: one id or a list, waiting, time-outs, and what is refused."""

import inspect
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import ray
from ray import errors
from tests.api.meeting import wait_open
from tests.api.programs import wait_for

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
def number(value: int) -> int:
    return value


@ray.remote
def fails(word: str) -> None:
    raise ValueError(word)


@pytest.mark.statement("get-01", "get-02", "get-call-02", "get-call-05", "get-call-06", "get-call-07")
def test_one_id_or_a_list() -> None:
    assert ray.get(number.remote(1)) == 1
    assert ray.get([number.remote(1)]) == [1]
    assert ray.get([number.remote(each) for each in range(50)]) == list(range(50))
    assert ray.get([ray.put("x"), number.remote(2)]) == ["x", 2]


@pytest.mark.statement("get-call-01", "more-wait-06")
def test_signature() -> None:
    assert list(inspect.signature(ray.get).parameters)[:2] == ["object_ids", "worker"]
    object_id = number.remote(1)
    assert ray.get(object_id, worker=ray.worker.global_worker) == 1
    assert ray.get([object_id], ray.worker.global_worker) == [1]


@pytest.mark.statement("get-call-03")
def test_get_blocks_until_the_object_is_there(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    object_id = ray.remote(wait_open).remote(str(gate))
    times: dict[str, float] = {}

    def getter() -> None:
        assert ray.get(object_id) is True
        times["got"] = time.monotonic()

    thread = threading.Thread(target=getter)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    times["opened"] = time.monotonic()
    gate.touch()
    thread.join(10)
    assert times["got"] >= times["opened"]


@pytest.mark.statement("get-call-04")
def test_an_object_from_another_process_arrives_once_it_was_created() -> None:
    """Made by one worker out of what another one made, and fetched here."""

    @ray.remote
    def slow() -> str:
        time.sleep(0.1)
        return "made elsewhere"

    @ray.remote
    def passed_on(value: str) -> str:
        return value + ", passed on"

    assert ray.get(passed_on.remote(slow.remote())) == "made elsewhere, passed on"


@pytest.mark.statement("more-get-01")
def test_timeout(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    waiting = ray.remote(wait_open).remote(str(gate))
    began = time.monotonic()
    with pytest.raises(errors.GetTimeoutError) as late:
        ray.get(waiting, timeout=100)
    assert 0.09 < time.monotonic() - began < 5
    assert late.value.timeout_ms == 100
    with pytest.raises(TimeoutError):
        ray.get([number.remote(1), waiting], timeout=0)
    gate.touch()
    assert ray.get(waiting, timeout=10_000) is True


@pytest.mark.statement("more-get-02")
@pytest.mark.parametrize("wrong", [1, "id", None, b"x" * 20, {"a": 1}, [1], [None], [[1]]], ids=repr)
def test_what_is_no_id(wrong: Any) -> None:
    with pytest.raises(errors.ArgumentTypeError, match=r"ray\.get"):
        ray.get(wrong)


@pytest.mark.statement("more-get-03")
def test_duplicates_and_nothing() -> None:
    object_id = number.remote(3)
    assert ray.get([object_id, object_id, ray.put(4), object_id]) == [3, 3, 4, 3]
    assert ray.get([]) == []


@pytest.mark.statement("more-get-04")
def test_the_first_failure_in_the_lists_order() -> None:
    """Also when the second one failed long before."""
    quick = fails.remote("second in the list")
    ray.wait([quick])
    slow = fails.remote("first in the list")
    with pytest.raises(ValueError, match="first in the list"):
        ray.get([number.remote(1), slow, quick])


@pytest.mark.statement("more-get-05")
def test_an_id_from_its_bytes() -> None:
    kept = ray.put("still here")
    data = kept.binary()
    assert len(data) == 20
    assert kept.hex() == data.hex()
    again = ray.ObjectID(data)
    assert again == kept
    assert hash(again) == hash(kept)
    assert ray.get(again) == "still here"
    del kept, again

    def lost() -> str | None:
        try:
            ray.get(ray.ObjectID(data), timeout=5000)
        except errors.ObjectLostError as error:
            return str(error)
        return None  # drops are handed in together, some milliseconds later

    assert data.hex() in (wait_for(lost, 5) or "")


@pytest.mark.statement("get-01")
@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -1,
        2**200,
        1.5,
        1j,
        "text ü",
        b"bytes",
        (1, (2,)),
        [1, [2]],
        {"a": {1: 2}},
        {1, 2},
        range(3),
        "x" * 10**6,
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_come_back_equal(value: Any) -> None:
    assert ray.get(ray.put(value)) == value
    back = ray.get(ray.remote(lambda each: each).remote(value))
    assert back == value
    assert type(back) is type(value)
