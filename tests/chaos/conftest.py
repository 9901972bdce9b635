"""Fixtures of the attacks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.programs import Programs
from tests.chaos.attack import FULL, Attack
from tests.chaos.figures import FIGURE


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The watchdog of `Attack` looks after progress; a long attack in its full form is no hang."""
    for item in items:
        if item.path.parent == Path(__file__).parent and FULL:
            item.add_marker(pytest.mark.timeout(1800), append=False)


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """Runs drivers in processes of their own; none of theirs may be left two seconds after their end."""
    with Programs(tmp_path) as running:
        yield running


@pytest.fixture
def attack(request: pytest.FixtureRequest, programs: Programs) -> Attack:
    """One attack, named after its test."""
    name = request.node.name.removeprefix("test_")
    own = request.node.user_properties
    return Attack(name, programs, lambda figure: own.append((FIGURE, str(figure))))
