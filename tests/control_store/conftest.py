from collections.abc import Iterator

import pytest

from tests.control_store.running import RunningServer


@pytest.fixture
def redis_server() -> Iterator[RunningServer]:
    """A server of its own, configured and started as a session's is."""
    server = RunningServer()
    yield server
    server.stop()
