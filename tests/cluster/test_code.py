"""The modules beside a script reach the workers of other nodes, as if its folder were there."""

import os
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray.core import script_code
from ray.testing import LocalCluster, LocalNode
from tests.api.programs import Programs, wait_for
from tests.cluster.events import PATIENCE_S, manager_of
from tests.session.other_user import USER, programs_of_other


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as running:
        yield running


def code_of(node: LocalNode) -> list[Path]:
    folder = Path(node.record.logs) / "code"
    return sorted(folder.iterdir()) if folder.exists() else []


# As if the nodes were other machines: the folder is gone when tasks are to import from it.
ELSEWHERE = """
import os, sys, time
import ray

@ray.remote(num_custom_resource=1)
def there(name):
    import json, os
    import helpers
    from package import data
    assert "json/__init__" in json.__file__
    return helpers.double(name), data.table(), os.path.dirname(helpers.__file__)

@ray.remote(num_custom_resource=1)
def lacks():
    import not_installed_anywhere

@ray.remote(num_custom_resource=1)
def probes():
    import importlib.util
    return importlib.util.find_spec("not_installed_anywhere") is None

ray.init(redis_address=sys.argv[1], node_ip_address=sys.argv[2])
"""
HELPERS = """
def double(text):
    return text + text + "%s"
"""
DATA = """
import json, os

def table():
    with open(os.path.join(os.path.dirname(__file__), "table.json")) as file:
        return json.load(file)
"""


def make_project(programs: Programs, name: str) -> None:
    programs.write("helpers.py", HELPERS % name)
    (programs.folder / "package").mkdir(exist_ok=True)
    for path, text in (("__init__.py", ""), ("data.py", DATA), ("table.json", '{"one": 1}')):
        programs.write(f"package/{path}", text)


HIDE = """
from ray.core import script_code
place = script_code.place_of
script_code.place_of = lambda folder: "another machine"
"""
# The driver packs its folder, then it vanishes; and comes back for the next program.
RUN = """
import ray.core.script_code as code
packed = code.pack
def pack_and_hide(folder):
    found = packed(folder)
    os.rename("package", "away"); os.rename("helpers.py", "helpers.away")
    return found
code.pack = pack_and_hide
try:
    print(*ray.get(there.remote("x")), sep="|")
    print(*ray.get(there.remote("y")), sep="|")
finally:
    os.rename("away", "package"); os.rename("helpers.away", "helpers.py")
"""


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(1) as cluster:
        cluster.add_node(num_custom_resource=1)
        yield cluster


def run(programs: Programs, cluster: LocalCluster, source: str) -> list[str]:
    done = programs.run(source, cluster.address, cluster.head.node_ip_address)
    return done.out.splitlines()


def test_modules_come_from_the_driver_once(programs: Programs, cluster: LocalCluster, tmp_path: Path) -> None:
    make_project(programs, "!")
    source = HIDE + ELSEWHERE + RUN
    first, second = run(programs, cluster, source)
    text, table, folder = first.split("|")
    assert (text, table) == ("xx!", "{'one': 1}")
    assert second.split("|") == ["yy!", table, folder]
    [place] = code_of(cluster.nodes[1])
    assert folder == str(place)
    for path in (place.parent, place, place / "package"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / "helpers.py").stat().st_mode) == 0o600
    assert code_of(cluster.head) == []
    # Another job with the same content finds it there; one with another has its own.
    shutil.rmtree(programs.folder / "package" / "__pycache__", ignore_errors=True)
    for program in programs.folder.glob("program*"):
        program.unlink()
    programs._count = 0
    assert run(programs, cluster, source)[0].split("|") == [text, table, folder]
    make_project(programs, "?")
    third = run(programs, cluster, source)[0].split("|")
    assert third[0] == "xx?"
    assert third[2] != folder
    assert len(code_of(cluster.nodes[1])) == 2
    cluster.stop_node(cluster.nodes[1])
    assert not place.exists()


SAME = """
print(*ray.get(there.remote("x")), sep="|")
"""


@pytest.mark.parametrize("before", ["", HIDE])
def test_a_folder_that_is_there_with_the_same_content_is_used(
    programs: Programs, cluster: LocalCluster, before: str
) -> None:
    make_project(programs, "!")
    [said] = run(programs, cluster, before + ELSEWHERE + SAME)
    assert said.split("|") == ["xx!", "{'one': 1}", str(programs.folder)]
    assert code_of(cluster.nodes[1]) == []


LACKS = """
print(ray.get(probes.remote()))
try:
    ray.get(lacks.remote())
except ray.errors.RayTaskError as error:
    print(error)
"""


def test_another_missing_module_is_an_error_with_a_remedy(programs: Programs, cluster: LocalCluster) -> None:
    make_project(programs, "!")
    said = run(programs, cluster, ELSEWHERE + LACKS)
    assert said[0] == "True"
    text = "\n".join(said)
    for part in (
        "No module named 'not_installed_anywhere'",
        cluster.nodes[1].node_ip_address,
        cluster.nodes[1].node_id[:8],
        "install it",
        str(programs.folder),
    ):
        assert part in text


def test_a_drivers_own_node_gets_them_as_well(programs: Programs, cluster: LocalCluster) -> None:
    """Where the user that the cluster runs as may not read the driver's folder."""
    make_project(programs, "!")
    done = programs.run(HIDE + ELSEWHERE + RUN, cluster.address, cluster.nodes[1].node_ip_address)
    [place] = code_of(cluster.nodes[1])
    assert [line.split("|")[2] for line in done.out.splitlines()] == [str(place)] * 2


BY_REFERENCE = """
import helpers_with_tasks
print(ray.get(helpers_with_tasks.begun.remote()), ray.get(helpers_with_tasks.Kept.remote().get.remote()))
"""
WITH_TASKS = """
import ray, helpers

@ray.remote
def helped():
    return helpers.double("x")

@ray.remote(num_custom_resource=1)
def begun():
    return ray.get(helped.remote())

@ray.remote
class Kept:
    def get(self):
        return helpers.double("y")
"""


@pytest.mark.parametrize("before", ["", HIDE])
def test_functions_of_modules_and_what_they_begin(
    programs: Programs, cluster: LocalCluster, before: str
) -> None:
    make_project(programs, "!")
    programs.write("helpers_with_tasks.py", WITH_TASKS)
    assert run(programs, cluster, before + ELSEWHERE + BY_REFERENCE) == ["xx! yy!"]


LARGE = """
@ray.remote(num_custom_resource=1)
def large():
    import large_one

try:
    ray.get(large.remote())
except ray.errors.RayTaskError as error:
    print(error)
"""
VANISHES = """
import ray.core.script_code as code
packed = code.pack
def pack_and_hide(folder):
    found = packed(folder)
    os.rename("large_one.py", "large.away")
    return found
code.pack = pack_and_hide
"""


def test_what_is_left_out_is_said(programs: Programs, cluster: LocalCluster) -> None:
    make_project(programs, "!")
    programs.write("large_one.py", "#" * (script_code.FILE_BYTES + 1))
    source = HIDE + ELSEWHERE + VANISHES + LARGE
    done = programs.run(source, cluster.address, cluster.head.node_ip_address)
    assert "No module named 'large_one'" in done.out
    assert "Copy the folder to the same path" in done.out
    assert "copy the folder to the same path" in done.err
    for text in (done.out, done.err):
        assert f"large_one.py ({script_code.FILE_BYTES + 1:,} bytes" in text


WITHOUT_A_FILE = """
import sys, ray

@ray.remote(num_custom_resource=1)
def there():
    import os, sys
    sys.path = [each for each in sys.path if not os.path.exists(os.path.join(each or '.', 'helpers.py'))]
    import helpers

ray.init(redis_address=sys.argv[1], node_ip_address=sys.argv[2])
try:
    ray.get(there.remote())
except ray.errors.RayTaskError as error:
    print(error)
"""
RUN_IT = """
import subprocess, sys
subprocess.run([sys.executable, "-c", open("without.txt").read(), *sys.argv[1:]], check=True)
"""


def test_a_program_without_a_file_sends_nothing(programs: Programs, cluster: LocalCluster) -> None:
    make_project(programs, "!")
    programs.write("without.txt", WITHOUT_A_FILE)
    text = "\n".join(run(programs, cluster, RUN_IT))
    assert "No module named 'helpers'" in text
    assert "put it beside the driver's script" in text
    assert code_of(cluster.nodes[1]) == []


SLOW = """
import ray.core.script_code as code
packed = code.pack
def pack_slowly(folder):
    open("packing", "w").close()
    while not os.path.exists("go on"):
        time.sleep(0.01)
    return packed(folder)
code.pack = pack_slowly
print(*ray.get(there.remote("x")), sep="|")
"""


def test_node_managers_that_are_killed_meanwhile(programs: Programs, cluster: LocalCluster) -> None:
    make_project(programs, "!")
    program = programs.start(HIDE + ELSEWHERE + SLOW, cluster.address, cluster.head.node_ip_address)
    assert wait_for(lambda: (programs.folder / "packing").exists() or None, PATIENCE_S)
    for node in cluster.nodes:
        pid = wait_for(lambda node=node: manager_of(node), PATIENCE_S)  # type: ignore[misc]
        assert pid
        os.kill(pid, signal.SIGKILL)
    (programs.folder / "go on").touch()
    done = program.finish()
    assert done.out.startswith("xx!|"), done.both


def test_the_code_goes_with_a_node_whose_keeper_is_killed(programs: Programs, cluster: LocalCluster) -> None:
    make_project(programs, "!")
    run(programs, cluster, HIDE + ELSEWHERE + RUN)
    [place] = code_of(cluster.nodes[1])
    os.kill(cluster.nodes[1].keeper.pid, signal.SIGKILL)
    assert wait_for(lambda: not place.parent.exists() or None, PATIENCE_S)


def test_an_other_users_modules(cluster: LocalCluster) -> None:
    """Its folder is closed to the user that the cluster runs as: nobody but root could read it there."""
    with programs_of_other() as others:
        make_project(others, "!")
        for path in others.folder.rglob("*"):
            os.chown(path, USER, USER)
        others.folder.chmod(0o700)
        token = others.folder / "token"
        shutil.copyfile(cluster.head.record.token_file, token)
        token.chmod(0o600)
        os.chown(token, USER, USER)
        done = others.run(
            HIDE + ELSEWHERE + RUN,
            cluster.address,
            cluster.head.node_ip_address,
            env={"RAY_TOKEN_FILE": str(token)},
        )
        assert done.out.splitlines()[0].startswith("xx!|")
