"""For all tests: whoever leaves something behind fails, and a folder for temporary files that is watched."""

import gc
import os
import signal
import tempfile
from collections.abc import Generator, Iterator

import pytest

from tests import leaks
from tests.audit.run import Audit
from tests.chaos.figures import Figures

FAILED = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    # What a shell starts in its background ignores Ctrl-C, and what nohup starts a hang-up; so would all that
    # tests start. A handler is not passed on.
    for signum, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, lambda *_: None)):
        if signal.getsignal(signum) == signal.SIG_IGN:
            signal.signal(signum, handler)
    if not hasattr(config, "workerinput"):  # sessions and figures of a worker are those of its run
        config.pluginmanager.register(Audit(), "audit")
        config.pluginmanager.register(Figures(), "figures")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture(scope="session", autouse=True)
def temporary_folder() -> Iterator[str]:
    """A folder of its own for this run, so that other programs' files are not taken for leaks."""
    with tempfile.TemporaryDirectory(prefix="ray-tests-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", None)
        # Tokens of clusters are not to lie among the user's own.
        patch.setenv("XDG_CONFIG_HOME", os.path.join(folder, "configuration"))
        patch.delenv("RAY_TOKEN_FILE", raising=False)
        os.mkdir(os.path.join(folder, "configuration"))
        yield folder


@pytest.fixture(scope="module", autouse=True)
def modules_aside(temporary_folder: str) -> None:
    """What is there before a file's tests, mostly modules, is not looked through after each of them.

    At this moment no fixture of another file is left, whose values might become garbage later.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_leaks(temporary_folder: str, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the test that leaves a process, descriptor, thread, shared memory or temporary file."""
    before = leaks.Snapshot.take()
    yield
    # pytest still holds the values of fixtures that are torn down; an arena is closed by its last reference.
    if request.node.funcargs is not None:  # a Ctrl-C amid them leaves none
        request.node.funcargs.clear()
    gc.collect()
    if request.node.stash.get(FAILED, False):
        leaks.kill_leaked(before)  # its frames, and what lives in them, are kept for the report
    elif leaked := leaks.leaks_since(before):
        leaks.kill_leaked(before)
        pytest.fail(f"left behind: {leaked}", pytrace=False)
