"""For all tests: whoever leaves something behind fails, and a folder for temporary files that is watched."""

import os
import tempfile
from collections.abc import Iterator

import pytest

from tests import leaks


@pytest.fixture(scope="session", autouse=True)
def temporary_folder() -> Iterator[str]:
    """A folder of its own for this run, so that other programs' files are not taken for leaks."""
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="ray-tests-") as folder:
        os.environ["TMPDIR"] = folder
        tempfile.tempdir = None
        yield folder
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
        tempfile.tempdir = None


@pytest.fixture(autouse=True)
def no_leaks(temporary_folder: str) -> Iterator[None]:
    """Fails the test that leaves a process, descriptor, thread, shared memory or temporary file."""
    before = leaks.Snapshot.take()
    yield
    leaked = leaks.leaks_since(before)
    if leaked:
        leaks.kill_leaked(before)
        pytest.fail(f"left behind: {leaked}", pytrace=False)
