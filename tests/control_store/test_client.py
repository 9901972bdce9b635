import time

import pytest

from ray.control_store.client import ControlStore
from ray.errors import RaySystemError
from tests.control_store.running import RunningServer


def test_an_empty_server_has_nothing_to_say(redis_server: RunningServer) -> None:
    store = ControlStore([redis_server.address], redis_server.password)
    assert store.errors(1) == store.functions() == []
    assert store.jobs() == store.session() == {}
    assert store.place() == 0
    store.close()


def test_a_restarted_server_is_found_again(redis_server: RunningServer) -> None:
    store = ControlStore([redis_server.address], redis_server.password)
    assert store.place() == 0
    redis_server.stop()
    redis_server.start()
    assert store.place() == 0
    store.close()


def test_a_server_that_is_away_is_named_soon(redis_server: RunningServer) -> None:
    store = ControlStore([redis_server.address], redis_server.password)
    redis_server.stop()
    began = time.monotonic()
    with pytest.raises(RaySystemError, match=redis_server.address):
        store.errors(1)
    assert time.monotonic() - began < 3
    redis_server.start()
    store.close()


def test_a_wrong_password_is_an_error(redis_server: RunningServer) -> None:
    store = ControlStore([redis_server.address], "ab")
    with pytest.raises(RaySystemError):
        store.jobs()
    store.close()
