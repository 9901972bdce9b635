"""The audit itself: what it must catch it catches, in the real processes; what workers do is their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ray
from ray.session import processes
from tests.api.programs import Programs, command
from tests.audit.hook import FOUND, PROVOKE_VARIABLE
from tests.audit.run import FOLDER, found, lines

# As the boot of a keeper, but it takes the name that it is given and then does what it is told.
PROGRAM = """
import ctypes, os, sys
name, what = sys.argv[1:]
ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)  # PR_SET_NAME
if os.fork() == 0:
    exec(what)
    os._exit(0)
os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
LOADS = "import pickle; pickle.loads(pickle.dumps(1))"
LOAD = "import io, pickle; pickle.load(io.BytesIO(pickle.dumps(1)))"
UNPICKLER = "import io, _pickle; _pickle.Unpickler(io.BytesIO(_pickle.dumps(1))).load()"
CLASS = "import collections, io, pickle; pickle._loads(pickle.dumps(collections.Counter()))"
CLOUDPICKLE = "import cloudpickle; cloudpickle.loads(cloudpickle.dumps(lambda: 1))"
DUMPS = "import pickle; pickle.dumps(1)"

# Its processes come when they are needed, or later; it waits for what it provokes, but not for ever.
SESSION = """
import os, time
from pathlib import Path
import ray

ray.init(num_cpus=1)

@ray.remote
def twice(x):
    return 2 * x

assert ray.get(twice.remote(2)) == 4
file, deadline_s = Path(os.environ["RAY_TEST_AUDIT"]), time.monotonic() + 15
while ": loads; at" not in file.read_text() and time.monotonic() < deadline_s:
    time.sleep(0.01)
ray.shutdown()
"""


def told(tmp_path: Path, name: str, what: str) -> list[str]:
    """What the audit finds when a process of this name does that."""
    program, file = tmp_path / "program.py", tmp_path / "found"
    program.write_text(PROGRAM)
    folders = [path for path in sys.path if path.endswith("site-packages")]
    env = {**os.environ, "RAY_TEST_AUDIT": str(file), "PYTHONPATH": os.pathsep.join(folders)}
    command = [sys.executable, "-S", str(FOLDER / "boot.py"), str(program), name, what]
    subprocess.run(command, env=env, check=True, timeout=30)
    assert len(lines(file)) == 1 + len(found(file))
    return [line.removeprefix(FOUND) for line in found(file)]


@pytest.mark.parametrize("what", [LOADS, LOAD, UNPICKLER, CLASS, CLOUDPICKLE])
@pytest.mark.parametrize("name", ["ray-keeper", "ray-node", "ray-template"])
def test_every_way_to_unpickle_is_found(tmp_path: Path, name: str, what: str) -> None:
    reported = told(tmp_path, name, what)
    assert [line for line in reported if line.startswith(name) and " import " not in line]


def test_keeper_and_node_manager_may_not_even_import_it(tmp_path: Path) -> None:
    for name, count in (("ray-keeper", 1), ("ray-node", 1), ("ray-template", 0)):
        folder = tmp_path / name
        folder.mkdir()
        assert len([line for line in told(folder, name, DUMPS) if ": import pickle; at" in line]) == count


@pytest.mark.parametrize("what", [LOADS, LOAD, UNPICKLER, CLASS, CLOUDPICKLE])
def test_workers_unpickle(tmp_path: Path, what: str) -> None:
    assert told(tmp_path, "ray-worker", what) == []


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("ray-keeper", "ray.session.handshake"),
        ("ray-node", "ray.node.manager"),
        ("ray-template", "ray.session.template"),
    ],
)
def test_in_the_processes_of_a_session(tmp_path: Path, name: str, module: str) -> None:
    file = tmp_path / "found"
    with Programs(tmp_path) as programs:
        programs.run(SESSION, env={"RAY_TEST_AUDIT": str(file), PROVOKE_VARIABLE: module})
    assert [line for line in found(file) if f"{name} " in line and ": loads; at" in line]
    assert all(line.startswith(f"{FOUND}{name} ") for line in found(file))


def test_sessions_of_this_run_are_audited() -> None:
    before = lines(Path(os.environ["RAY_TEST_AUDIT"]))
    ray.init(num_cpus=1)
    try:
        new = lines(Path(os.environ["RAY_TEST_AUDIT"]))[len(before) :]
        ours = processes.descendants(os.getpid())  # other workers of this run write there too
        keepers = [pid for line in new if (pid := int(line.split()[1])) in ours]
        assert ["audit/boot.py" in command(pid) for pid in keepers] == [True]
    finally:
        ray.shutdown()


@pytest.mark.parametrize(("what", "code"), [("unpickled: ray-node 1: loads; at here", 1), ("audits 1", 0)])
def test_one_unpickling_fails_the_run(tmp_path: Path, what: str, code: int) -> None:
    (tmp_path / "test_something.py").write_text(
        f"import os\ndef test():\n    print({what!r}, file=open(os.environ['RAY_TEST_AUDIT'], 'a'))\n"
    )
    program = "import pytest, sys, tests.audit.run as run; sys.exit(pytest.main(plugins=[run.Audit()]))"
    env = {**os.environ, "PYTHONPATH": str(FOLDER.parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert (what in done.stdout) == bool(code)
