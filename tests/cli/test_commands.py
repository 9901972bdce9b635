"""`ray start`, `ray stop` and `ray status`, as a shell runs them."""

import json
import os
import re
import shlex
import signal
import socket
from pathlib import Path

import pytest

from ray.control_store.client import ControlStore
from ray.session import tokens
from ray.session.ports import DEFAULT_PORT
from ray.wire.token import ClusterToken
from tests.api.programs import Programs, wait_for
from tests.cli import head as cli
from tests.cli.head import Head
from tests.session.family import name_of

ADD = """
import sys
import ray

@ray.remote
def add(a, b):
    return a + b

ray.init(redis_address=sys.argv[1])
print(ray.get(add.remote(40, 2)))
"""
OWN_SESSION = """
import os, time
import ray

print(ray.init(num_cpus=1)["redis_address"], flush=True)
while not os.path.exists("release"):
    time.sleep(0.01)
"""


def test_a_session_outlives_its_starter_and_its_drivers(programs: Programs, head: Head) -> None:
    for _ in range(2):
        assert programs.run(ADD, head.address).out == "42\n"
    status = head.status()
    assert status["started_by"] == "ray start"
    assert status["resources"]["CPU"]["total"] == 2
    assert status["tasks_done"] >= 2


def test_what_start_prints_is_what_there_is(programs: Programs, head: Head) -> None:
    assert "2 CPUs" in head.said
    logs = re.search(r"logs +(\S+)", head.said)
    assert logs
    assert "redis.out" in os.listdir(logs[1])
    assert os.stat(logs[1]).st_mode & 0o777 == 0o700
    shown = cli.run(programs, "status")
    assert shown.code == 0, shown.both
    assert head.address in shown.out


def test_stop_ends_it_and_says_what_that_was(programs: Programs) -> None:
    head = Head.start(programs, "--num-cpus=1")
    assert programs.run(ADD, head.address).out == "42\n"  # there are workers by now
    said = head.stop().out
    assert programs.gone()
    for name in ("ray-keeper", "ray-template", "ray-worker"):
        assert name in said
    again = cli.run(programs, "stop", f"--address={head.address}")
    assert again.code == 1
    assert head.address in again.err


def test_two_sessions_of_one_user_are_two(programs: Programs, head: Head) -> None:
    other = Head.start(programs, "--num-cpus=1")
    assert other.address != head.address
    assert programs.run(ADD, other.address).out == "42\n"
    other.stop()
    assert programs.run(ADD, head.address).out == "42\n"


def test_a_scripts_session_is_its_own(programs: Programs) -> None:
    script = programs.start(OWN_SESSION)
    address = script.line()
    done = cli.run(programs, "stop", f"--address={address}")
    assert done.code == 1
    assert f"process {script.pid}" in done.err
    (programs.folder / "release").touch()
    assert script.finish().code == 0


def test_a_taken_port_is_named_with_its_holder(programs: Programs) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = cli.run(programs, "start", "--head", f"--redis-port={port}")
    assert done.code == 1
    assert f"process {os.getpid()}" in done.err
    assert "--redis-port" in done.err
    assert programs.gone()


def test_the_port_that_was_asked_for(programs: Programs) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = cli.run(programs, "start", "--head", f"--redis-port={port}", "--num-cpus=1")
    assert done.code == 0, done.both
    head = Head(programs, f"127.0.0.1:{port}", done.out)
    assert programs.run(ADD, head.address).out == "42\n"
    head.stop()
    assert programs.gone()


def test_the_usual_port_is_left_to_who_has_it(programs: Programs) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", DEFAULT_PORT))
            taken.listen()
        except OSError:
            pass  # somebody has it already, which is as good
        done = cli.run(programs, "start", "--head", "--num-cpus=1")
        assert done.code == 0, done.both
        found = re.search(r"127\.0\.0\.1:(\d+)", done.out)
        assert found
        assert int(found[1]) != DEFAULT_PORT
        Head(programs, found[0], done.out).stop()
    assert programs.gone()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_in_the_foreground_a_signal_ends_it(programs: Programs, signum: int) -> None:
    running = cli.start(programs, "start", "--head", "--redis-port=0", "--num-cpus=1", "--block")
    assert "Started a session" in running.line()
    wait_for(lambda: len(programs.left()) > 3 or None, 5.0)
    running.send(signum)
    done = running.finish()
    assert done.code == 0, done.both
    assert "Ended the session" in done.out
    assert programs.gone()


def test_a_signal_before_it_has_started_is_said(programs: Programs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a control store that does not answer
        silent.settimeout(10.0)
        url = f"redis://:secret@127.0.0.1:{silent.getsockname()[1]}/0"
        running = cli.start(programs, "start", "--head", "--redis-port=0", f"--redis-url={url}", "--block")
        connection, _ = silent.accept()
        with connection:
            running.send(signal.SIGTERM)
            done = running.finish()
    assert done.code == 1, done.both
    assert "before the node had started" in done.err
    assert programs.gone()


def test_in_the_foreground_the_end_of_the_session_is_said(programs: Programs) -> None:
    running = cli.start(programs, "start", "--head", "--redis-port=0", "--num-cpus=1", "--block")
    found = re.search(r"127\.0\.0\.1:\d+", running.line())
    assert found
    Head(programs, found[0], "").stop()
    done = running.finish()
    assert done.code == 1
    assert "has ended" in done.err


def test_what_makes_no_sense_is_refused(programs: Programs) -> None:
    for args in (
        ("start",),
        ("start", "--head", "--num-cpus=-1"),
        ("start", "--head", "--huge-pages"),
        ("start", "--head", "--redis-port=99999"),
        ("start", "--head", "--plasma-directory=/nowhere"),
        ("start", "--head", "--object-store-memory=12"),
        ("start", "--head", "--resources=licence"),
        ("start", "--head", "--resources=[1]"),
        ("start", "--head", '--resources={"CPU": 1}'),
        ("start", "--head", '--resources={"licence": 1, "tape": 1}'),
        ("start", "--head", '--resources={"licence": 1}', "--num-custom-resource=1"),
        ("start", "--head", "--drain-timeout=5"),
        ("start", "--head", "--node-ip-address=0.0.0.0"),
        ("start", "--head", "--node-ip-address=::"),
        ("start", "--head", "--redis-address=127.0.0.1:6379"),
        ("start", "--redis-address=127.0.0.1:6379", "--redis-port=1"),
        ("start", "--redis-address=127.0.0.1:6379", "--num-redis-shards=1"),
        ("start", "--redis-address=127.0.0.1:6379", "--node-ip-address=192.0.2.1"),
        ("start", "--redis-address=127.0.0.1"),
    ):
        done = cli.run(programs, *args)
        assert done.code in (1, 2), (args, done.both)
        assert "Error: " in done.err
        assert "Traceback" not in done.err
    assert programs.gone()


def test_a_keeper_that_is_killed_ends_the_session(programs: Programs) -> None:
    head = Head.start(programs, "--num-cpus=1")
    (keeper,) = [pid for pid in programs.left() if name_of(pid) == "ray-keeper"]
    os.kill(keeper, signal.SIGKILL)
    assert programs.gone()
    assert cli.run(programs, "stop", f"--address={head.address}").code == 1


def test_a_node_joins_and_stands_by_itself(programs: Programs) -> None:
    head = Head.start(programs, "--num-cpus=2")
    done = cli.run(programs, "start", f"--redis-address={head.address}", "--num-cpus=3")
    assert done.code == 0, done.both
    assert "3 CPUs" in done.out
    listed = json.loads(cli.run(programs, "status", "--json").out)
    own = {each["role"]: each for each in listed if each["redis_address"] == head.address}
    assert own.keys() == {"head", "node"}
    assert own["node"]["resources"]["CPU"]["total"] == 3
    assert own["node"]["link_address"] in done.out
    assert own["node"]["node_id"] != own["head"]["node_id"]
    assert len(bytes.fromhex(own["node"]["node_id"])) == 20
    assert own["node"]["token_file"] == own["head"]["token_file"]
    shown = cli.run(programs, "status").out
    assert f"Node {own['node']['link_address']}" in shown
    said = head.stop().out.splitlines()
    assert said[0].startswith(f"Ended the node {own['node']['link_address']}")
    assert said[1].startswith("Ended the session")
    assert programs.gone()


def test_the_line_that_start_prints_joins(programs: Programs, head: Head) -> None:
    found = re.search(r"join +ray (start --redis-address=\S+)", head.said)
    assert found
    done = cli.run(programs, *found[1].split(), "--num-cpus=1")
    assert done.code == 0, done.both


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.1.1"])  # the latter is what Debian calls a machine
def test_the_line_of_a_head_with_a_token_file_joins(programs: Programs, tmp_path: Path, host: str) -> None:
    head = Head.start(
        programs, "--num-cpus=1", f"--token-file={tmp_path / 'a token'}", f"--node-ip-address={host}"
    )
    found = re.search(r"join +ray (start --redis-address=.*?)(  \(|$)", head.said, re.MULTILINE)
    assert found
    done = cli.run(programs, *shlex.split(found[1]), "--num-cpus=1")
    assert done.code == 0, done.both
    head.stop()


def test_a_session_that_does_not_answer_is_named(programs: Programs) -> None:
    head = Head.start(programs, "--num-cpus=1")
    (keeper,) = [pid for pid in programs.left() if name_of(pid) == "ray-keeper"]
    os.kill(keeper, signal.SIGSTOP)
    try:
        # Without the address `stop` would end what other tests of this user have started.
        for command in (["status"], ["stop", f"--address={head.address}"]):
            said = cli.run(programs, *command).err
            assert f"port {head.address.rpartition(':')[2]} is left out" in said
            assert "kill -CONT" in said
    finally:
        os.kill(keeper, signal.SIGCONT)
    head.stop()


def test_a_node_needs_the_token_of_the_head(programs: Programs, head: Head, tmp_path: Path) -> None:
    (programs.folder / "elsewhere").mkdir()
    for token in (None, ClusterToken.new().save(str(tmp_path / "wrong"))):
        running = programs.start(
            cli.COMMAND,
            "start",
            f"--redis-address={head.address}",
            env={"XDG_CONFIG_HOME": str(programs.folder / "elsewhere"), "RAY_TOKEN_FILE": token or ""},
        )
        done = running.finish()
        assert done.code == 1
        assert "token" in done.err
        assert "Traceback" not in done.err


@pytest.mark.parametrize("has_token", [True, False])
def test_a_node_without_a_head(programs: Programs, tmp_path: Path, has_token: bool) -> None:
    """With an address where nobody listens, a token that is missing is not what is wrong."""
    token = tmp_path / "token"
    if has_token:
        ClusterToken.new().save(str(token))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = cli.run(programs, "start", f"--redis-address={address}", f"--token-file={token}")
    assert done.code == 1
    assert address in done.err
    assert "refused" in done.err
    assert programs.gone()


def test_status_names_the_process_that_a_node_ends_with(programs: Programs) -> None:
    head = Head.start(programs, "--num-cpus=1")
    keeper = head.status()["keeper"]
    assert f"process {keeper}" in cli.run(programs, "status").out
    os.kill(keeper, signal.SIGKILL)
    assert programs.gone()


def test_stop_of_an_address_that_is_not_there_names_each_session_once(programs: Programs, head: Head) -> None:
    joined = cli.run(programs, "start", f"--redis-address={head.address}", "--num-cpus=1")
    assert joined.code == 0, joined.both
    done = cli.run(programs, "stop", "--address=127.0.0.1:1")
    assert done.code == 1
    assert done.err.count(head.address) == 1


def test_a_token_file_is_kept_and_used_again(programs: Programs, tmp_path: Path) -> None:
    path = tmp_path / "kept"
    texts = set()
    for _ in range(2):
        head = Head.start(programs, "--num-cpus=1", f"--token-file={path}")
        assert str(path) in head.said
        head.stop()
        texts.add(path.read_text())
        assert path.stat().st_mode & 0o777 == 0o600
    assert len(texts) == 1
    assert texts.pop().startswith("ray-token-1:")
    assert programs.gone()


def test_the_token_is_in_its_file_only(programs: Programs, head: Head) -> None:
    """On no command line, in no environment and no log, and not in the control store."""
    assert programs.run(ADD, head.address).out == "42\n"  # there are workers by now
    token = ClusterToken.load(head.status()["token_file"])
    secret = token.text.partition(":")[2]
    for pid in programs.left():
        for file in ("cmdline", "environ"):
            assert secret.encode() not in Path(f"/proc/{pid}/{file}").read_bytes()
    for log in Path(head.status()["logs"]).iterdir():
        assert secret not in log.read_text()
    assert secret not in head.said
    store = ControlStore([head.address], tokens.password(token))
    found = wait_for(lambda: store.session() or None, 5.0)
    store.close()
    assert found
    assert found["link_address"]
    assert secret not in json.dumps(found)
    assert tokens.password(token) not in json.dumps(found)
