"""A second driver joins a running session, and leaves it without stopping anything."""

import json
import os
import signal
import socket
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ray.control_store.client import ControlStore
from ray.control_store.server import random_port
from ray.errors import InitError, RayConnectionError
from ray.session.attach import attach_session
from ray.session.options import SessionOptions
from tests.api.programs import Programs, Running, wait_for
from tests.session.family import Family, driver

UNTIL_RELEASED = """
while not os.path.exists("release"):
    time.sleep(0.01)
assert ray.get(pid.remote()) > 0
print("still fine", flush=True)
"""
JOIN = """
import json, os, sys, time
import ray

@ray.remote
def pid():
    return os.getpid()

info = ray.init(redis_address=sys.argv[1])
assert ray.get(pid.remote()) > 0
print(json.dumps(info), flush=True)
"""


def join(address: str) -> None:
    attach_session(SessionOptions.from_init(redis_address=address)).end()


@pytest.fixture
def session(programs: Programs) -> Family:
    return Family(programs.start(driver(UNTIL_RELEASED)))


def finish(programs: Programs, session: Family) -> None:
    (programs.folder / "release").touch()
    done = session.running.finish()
    assert done.code == 0, done.both
    assert done.out.endswith("still fine\n")


def test_joining_and_leaving(programs: Programs, session: Family) -> None:
    done = programs.run(JOIN, session.info["redis_address"])
    assert json.loads(done.out) == session.info
    finish(programs, session)


def test_a_host_name_will_do(programs: Programs, session: Family) -> None:
    port = session.info["redis_address"].rpartition(":")[2]
    programs.run(JOIN, f"localhost:{port}")
    finish(programs, session)


def test_many_join_at_once(programs: Programs, session: Family) -> None:
    drivers = [programs.start(JOIN, session.info["redis_address"]) for _ in range(6)]
    for each in drivers:
        done = each.finish()
        assert done.code == 0, done.both
    finish(programs, session)


def test_a_joined_driver_that_is_killed_is_buried(programs: Programs, session: Family) -> None:
    joined = programs.start(JOIN + "time.sleep(1000)", session.info["redis_address"])
    assert joined.line()
    store = ControlStore([session.info["redis_address"]], session.record().redis_password)

    def job(ended: bool) -> dict[str, object] | None:
        own = [each for each in store.jobs().values() if each["pid"] == joined.pid]
        return next((each for each in own if ("end_time_s" in each) == ended), None)

    assert wait_for(lambda: job(ended=False), 5.0)
    joined.send(signal.SIGKILL)
    joined.finish()
    assert wait_for(lambda: job(ended=True), 5.0)
    store.close()
    finish(programs, session)


def test_the_end_of_the_session_reaches_those_who_joined(programs: Programs, session: Family) -> None:
    source = """
    oid = ray.put(1)

    @ray.remote
    def long():
        time.sleep(1000)

    print("waiting", flush=True)
    try:
        ray.get(long.remote())
    except ray.errors.SessionEndedError:
        print("ended", flush=True)
    """
    joined = programs.start(JOIN + textwrap.dedent(source), session.info["redis_address"])
    joined.line()
    assert joined.line() == "waiting"
    session.running.send(signal.SIGKILL)
    assert joined.line() == "ended"
    assert joined.finish().code == 0


def test_nobody_listens() -> None:
    began = time.monotonic()
    with pytest.raises(RayConnectionError, match="nothing listens") as raised:
        join(f"127.0.0.1:{random_port()}")
    assert time.monotonic() - began < 2
    assert raised.value.address


def test_something_else_listens() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(RayConnectionError, match=r"something else listens.*ray start --redis-address="):
            join(f"127.0.0.1:{other.getsockname()[1]}")


def test_another_address_of_the_machine_is_not_the_sessions(programs: Programs, session: Family) -> None:
    port = session.info["redis_address"].rpartition(":")[2]
    with pytest.raises(RayConnectionError, match=session.info["redis_address"]):
        join(f"127.0.0.2:{port}")
    finish(programs, session)


def test_a_stopped_keeper_is_said_to_be_stopped(programs: Programs, session: Family) -> None:
    os.kill(session.keeper, signal.SIGSTOP)
    options = SessionOptions.from_init(
        redis_address=session.info["redis_address"], config={"connect_ms": 200}
    )
    with pytest.raises(RayConnectionError, match="did not answer within 200 ms"):
        attach_session(options)
    os.kill(session.keeper, signal.SIGCONT)
    finish(programs, session)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_a_session_of_another_user_is_named_as_such(programs: Programs, session: Family) -> None:
    address = session.info["redis_address"]
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65_534)
            join(address)
        except RayConnectionError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    message = os.read(read, 10_000).decode()
    os.close(read)
    assert "user with id 0" in message
    assert "65534" in message
    finish(programs, session)


def test_two_live_drivers_with_one_seed_are_refused(programs: Programs) -> None:
    running: Running = programs.start(
        driver(UNTIL_RELEASED).replace("ray.init(num_cpus=2)", "ray.init(num_cpus=2, object_id_seed=7)")
    )
    session = Family(running)
    options = SessionOptions.from_init(redis_address=session.info["redis_address"], object_id_seed=7)
    with pytest.raises(InitError, match="object_id_seed"):
        attach_session(options)
    finish(programs, session)


# Each driver's own folder has a module of the same name; `theirs` is found in the second one's only.
OWN_FOLDER = """
import os, sys, time
sys.path.insert(0, os.path.abspath(sys.argv[1]))
import helpers
import ray

by_value = ray.remote(lambda: __import__("helpers").NAME)
by_reference = ray.remote(helpers.name)
argument = ray.remote(lambda thing: thing.name())
Actor = ray.remote(helpers.Thing)

@ray.remote
def paths():
    return sys.path

@ray.remote
def passes_on():
    return ray.get(by_value.remote())

def all_mine(mine):
    assert ray.get(by_value.remote()) == mine
    assert ray.get(by_reference.remote()) == mine
    assert ray.get(argument.remote(helpers.Thing())) == mine
    assert ray.get(passes_on.remote()) == mine
    assert ray.get(Actor.remote().name.remote()) == mine
    assert ray.get(paths.remote()) == sys.path, (ray.get(paths.remote()), sys.path)
"""


def test_each_drivers_tasks_import_from_its_own_path(programs: Programs) -> None:
    helpers = (
        "NAME = {!r}\ndef name():\n    return NAME\nclass Thing:\n    def name(self):\n        return NAME\n"
    )
    for name in ("first", "second"):
        (programs.folder / name).mkdir()
        programs.write(f"{name}/helpers.py", helpers.format(name))
    programs.write("second/theirs.py", "class Value:\n    VALUE = 42\n")
    first = programs.start(
        OWN_FOLDER
        + """
info = ray.init(num_cpus=1)
handle = Actor.remote()
@ray.remote
class Keeper:
    def value(self, given):
        return given.VALUE, __import__("helpers").NAME
keeper = Keeper.remote()
all_mine("first")
shared = ray.put([keeper])
print(info["redis_address"], shared.hex(), flush=True)
while not os.path.exists("release"):
    all_mine("first")
    print("round", flush=True)
""",
        "first",
    )
    address, shared = first.line().split()
    done = programs.run(
        OWN_FOLDER
        + """
import theirs
ray.init(redis_address=sys.argv[2])
for _ in range(20):
    all_mine("second")
(keeper,) = ray.get(ray.ObjectID(bytes.fromhex(sys.argv[3])))
assert ray.get(keeper.value.remote(theirs.Value())) == (42, "first")
""",
        "second",
        address,
        shared,
    )
    assert done.err == ""
    (programs.folder / "release").touch()
    done = first.finish()
    assert done.code == 0, done.both
    assert done.err == "", done.both


def test_the_path_of_a_job_that_the_journal_has_forgotten(programs: Programs, session: Family) -> None:
    (programs.folder / "apart").mkdir()
    programs.write("apart/theirs.py", "VALUE = 42\n")
    joined = programs.start(
        "import os, sys\nsys.path.insert(0, os.path.abspath('apart'))\n"
        + JOIN
        + textwrap.dedent(
            """
            from ray import _kernel
            from ray.control_store.client import ControlStore

            arena = _kernel.current()
            store = ControlStore([sys.argv[1]], json.loads(arena.session())["redis_password"])
            while arena.job not in store.jobs():
                time.sleep(0.01)
            for _ in range(16_384):  # as many as the journal has
                arena.journal(_kernel.JOURNAL_NOTE, b"")
            store.close()
            assert ray.get(ray.remote(lambda: __import__("theirs").VALUE).remote()) == 42
            print("found", flush=True)
            """
        ),
        session.info["redis_address"],
    )
    joined.line()
    assert joined.line() == "found"
    assert joined.finish().code == 0
    finish(programs, session)


def test_output_of_all_processes_goes_to_files_when_asked(programs: Programs) -> None:
    source = """
    import sys, ray

    @ray.remote
    def say():
        print("said by a worker")
        print("complained by a worker", file=sys.stderr)

    ray.init(num_cpus=1, redirect_output=True)
    ray.get(say.remote())
    """
    done = programs.run(source)
    assert "said by a worker" not in done.out
    folder = done.err.split()[-1]
    assert f"goes to {folder}" in done.err
    assert os.stat(folder).st_mode & 0o777 == 0o700
    files = {file.name: file.read_text() for file in Path(folder).iterdir()}
    assert any(name.startswith("worker-") and "said by a worker" in text for name, text in files.items())
    assert any(name.endswith(".err") and "complained by a worker" in text for name, text in files.items())
    assert "Ready to accept connections" in files["redis.out"]


def test_the_interpreters_flags_and_surroundings_reach_the_workers(programs: Programs) -> None:
    programs.write("beside.py", "VALUE = 42\n")
    source = """
    import os, sys, ray

    @ray.remote
    def surroundings():
        import beside
        return beside.VALUE, os.getcwd(), os.environ["OWN"], sys.path, sys.argv, sys.executable, sys.prefix

    os.environ["OWN"] = "set by the driver"
    ray.init(num_cpus=1)
    there = ray.get(surroundings.remote())
    here = (42, os.getcwd(), "set by the driver", sys.path, sys.argv, sys.executable, sys.prefix)
    assert there == here, (there, here)
    """
    programs.run(source, "argument")
    assert sys.prefix != sys.base_prefix, "these tests run in a virtual environment"
