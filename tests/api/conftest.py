"""Fixtures of the API tests, and the map from statements to tests that a whole run prints at its end."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api import reporting, statements
from tests.api.programs import Programs


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "statement(*ids): the statements of the API that this test holds")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before -k and -m take tests away: a run that is asked for a part of the tests makes no map."""
    ours = [item for item in items if item.path.parent == statements.FOLDER]
    part = config.option.keyword or config.option.markexpr or any("::" in each for each in config.args)
    if part or {item.path for item in ours} != set(statements.FOLDER.glob("test_*.py")):
        return
    found = statements.StatementMap(statements.load())
    for item in ours:
        named = [name for mark in item.iter_markers("statement") for name in mark.args]
        found.claim(reporting.test_name(item.nodeid), named)
    config.pluginmanager.register(reporting.MapReport(found), "statements")


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """Runs programs in processes of their own; none of theirs may be left at the end."""
    with Programs(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, Any]]:
    """One session with 2 CPUs for all tests of a module."""
    import ray

    ray.shutdown()
    yield ray.init(num_cpus=2)
    ray.shutdown()


@pytest.fixture
def init() -> Iterator[Callable[..., dict[str, Any]]]:
    """ray.init, with a shutdown after the test."""
    import ray

    ray.shutdown()
    yield ray.init
    ray.shutdown()
