"""The full form of a property test takes minutes, and is no hang."""

from pathlib import Path

import pytest

from tests.properties.forms import FULL


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent and FULL:
            item.add_marker(pytest.mark.timeout(1800), append=False)
