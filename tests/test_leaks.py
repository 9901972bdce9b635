"""The check that holds all other tests must itself see every kind of leak."""

import os
import subprocess
import tempfile
import threading

from tests import leaks


def test_every_kind_of_leak_is_seen() -> None:
    before = leaks.Snapshot.take()
    process = subprocess.Popen(["sleep", "60"])
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="leaked-thread")
    thread.start()
    fd = os.open(os.devnull, os.O_RDONLY)
    shared = leaks.SHARED_MEMORY / f"ray-leak-test-{os.getpid()}"
    shared.touch()
    file = tempfile.NamedTemporaryFile(prefix="leaked-")  # noqa: SIM115
    try:
        found = leaks.Snapshot.take().leaked_since(before)
        assert found["processes"] == [f"{process.pid} sleep 60"]
        assert found["threads"] == ["leaked-thread"]
        assert found["shared memory"] == [shared.name]
        assert found["temporary files"] == [os.path.basename(file.name)]
        assert any(text.startswith(f"{fd} ") for text in found["descriptors"])
    finally:
        process.kill()
        process.wait()
        stop.set()
        thread.join()
        os.close(fd)
        shared.unlink()
        file.close()
    assert leaks.leaks_since(before) == {}


def test_what_a_wider_fixtures_process_starts_is_not_a_tests_own() -> None:
    shell = subprocess.Popen(["sh", "-c", "read line; sleep 60 & wait"], stdin=subprocess.PIPE)
    before = leaks.Snapshot.take()
    assert shell.stdin is not None
    shell.stdin.write(b"\n")
    shell.stdin.flush()
    assert leaks.leaks_since(before) == {}
    leaks.kill_leaked(leaks.Snapshot(frozenset(), *(frozenset() for _ in range(4))))  # type: ignore[arg-type]
    shell.wait()
    shell.stdin.close()
