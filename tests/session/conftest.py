from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.programs import Programs


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """Runs drivers in processes of their own; none of theirs may be left two seconds after their end."""
    with Programs(tmp_path) as running:
        yield running
