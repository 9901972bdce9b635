import pytest

from ray.errors import ActorOutOfMemoryError, MemoryShortage, OutOfMemoryError, RaySystemError
from ray.serialization.failures import (
    decode_failure,
    describe_failure,
    failure_text,
    forward_failure,
    with_node,
)
from ray.serialization.formats import OUT_OF_MEMORY, TASK_ERROR
from ray.serialization.shortages import Stopped

OTHERS = (("'g' in process 7", 20 << 20), ("process 8 (emacs é)", 1))
SHORTAGE = MemoryShortage("this machine", 96, 100, 95, 50, OTHERS, 4, "memory_fraction")


@pytest.mark.parametrize(("is_actor", "kind"), [(False, OutOfMemoryError), (True, ActorOutOfMemoryError)])
def test_there_and_back(is_actor: bool, kind: type) -> None:
    stopped = Stopped("f", is_actor, 80, SHORTAGE)
    assert Stopped.decode(stopped.encode()) == stopped
    error = decode_failure(OUT_OF_MEMORY, stopped.encode())
    assert type(error) is kind
    assert (error.function_name, error.pid, error.shortage) == ("f", 80, SHORTAGE)  # type: ignore[attr-defined]
    assert failure_text(OUT_OF_MEMORY, stopped.encode()) == str(error)
    found = describe_failure(OUT_OF_MEMORY, stopped.encode())
    assert (found.function_name, found.exception_type, found.pid) == ("f", kind.__name__, 80)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b'{"shortage": {"others": [[1]]}}', b"null"])
def test_other_bytes(data: bytes) -> None:
    assert Stopped.decode(data) is None
    assert isinstance(decode_failure(OUT_OF_MEMORY, data), RaySystemError)


def test_one_from_another_node_names_it() -> None:
    data = with_node(OUT_OF_MEMORY, Stopped("f", False, 80, SHORTAGE).encode(), "10.0.0.7 (ab12)")
    error = decode_failure(OUT_OF_MEMORY, with_node(OUT_OF_MEMORY, data, "another"))
    assert "its worker process 80 on node 10.0.0.7 (ab12) was stopped" in str(error)


def test_handed_on_to_a_task_that_depends_on_it() -> None:
    data, fmt = forward_failure(OUT_OF_MEMORY, Stopped("f", False, 80, SHORTAGE).encode(), "g", 0)
    assert fmt == TASK_ERROR
    error = decode_failure(fmt, data)
    assert isinstance(error, OutOfMemoryError)
    assert isinstance(error, MemoryError)
    assert "'g' was not run" in str(error)
    assert "this machine has 96 bytes of 100 bytes in use" in str(error)
