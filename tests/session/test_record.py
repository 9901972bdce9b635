"""The session's record as another release may have written it."""

import json

import pytest

from ray.errors import RaySystemError
from ray.session.record import VERSION, SessionRecord

RECORD = SessionRecord(
    token="ab",
    node_ip_address="127.0.0.1",
    redis_address="127.0.0.1:1",
    redis_shards=[],
    redis_password="cd",
    socket_name="@ray-0-1",
    keeper_pid=1,
    driver_pid=2,
    job=1,
    start_time_s=1.5,
    num_cpus=2,
    num_gpus=0,
    num_custom_resource=0,
    object_store_bytes=1 << 20,
    logs="",
    settings={"sweep_ms": 1000},
)


def test_it_comes_back_as_it_was() -> None:
    assert SessionRecord.load(RECORD.dump()) == RECORD


def test_fields_that_a_later_release_has_added_are_passed_over() -> None:
    fields = json.loads(RECORD.dump()) | {"new": [1, 2]}
    assert SessionRecord.load(json.dumps(fields).encode()) == RECORD


def test_another_version_is_refused_by_number() -> None:
    fields = json.loads(RECORD.dump()) | {"version": VERSION + 1}
    with pytest.raises(RaySystemError, match=f"version {VERSION + 1}, this one reads {VERSION}"):
        SessionRecord.load(json.dumps(fields).encode())
