from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.programs import Programs
from tests.cli.head import Head


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """Runs programs in processes of their own; none of theirs may be left at the end."""
    with Programs(tmp_path) as running:
        yield running


@pytest.fixture
def head(programs: Programs) -> Iterator[Head]:
    """A session of 2 CPUs that `ray start` has started, ended after the test."""
    started = Head.start(programs, "--num-cpus=2")
    yield started
    started.stop()
    assert programs.gone()
