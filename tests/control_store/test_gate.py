"""The gate to an operator's server: who gets through, and as whom."""

import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import hiredis
import pytest
import redis

from ray.control_store import asking, fitness, gate, schema, server
from ray.control_store.client import ControlStore
from ray.control_store.url import StoreUrl
from ray.errors import RayConnectionError
from tests.api.programs import wait_for
from tests.control_store.operators import HOST, operators_server, tls_in_front

OURS = "0123456789abcdef"
THEIRS = "the operator's"


@contextmanager
def running_gate(url: StoreUrl) -> Iterator[int]:
    port = server.random_port()
    process = get_context("fork").Process(target=gate.run, args=(HOST, port, OURS, url))
    process.start()
    try:
        assert wait_for(lambda: listens(port) or None, 5.0)
        yield port
    finally:
        process.kill()
        process.join()
        process.close()


def listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port)).close()
    except OSError:
        return False
    return True


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Of a gate to database 2 of a server with a user of its own."""
    users = (f'user ada on ">{THEIRS}" ~ray:* +@all', "user default off")
    with (
        operators_server(tmp_path, *users) as behind,
        running_gate(StoreUrl(HOST, behind, 2, False, "ada", THEIRS)) as port,
    ):
        yield port


def test_whoever_shows_the_sessions_password_gets_through(port: int) -> None:
    assert server.answers(HOST, port, OURS)
    for protocol in (2, 3):
        with redis.Redis(HOST, port, password=OURS, protocol=protocol) as client:
            client.hset(schema.JOBS, "1", "{}")
            assert client.client_info()["db"] == 2
            assert client.client_info()["user"] == "ada"
    store = ControlStore([f"{HOST}:{port}"], OURS)
    assert store.jobs() == {1: {}}
    store.close()


def test_what_nodes_that_join_ask(port: int) -> None:
    with redis.Redis(HOST, port, password=OURS) as client:
        client.hset(schema.SESSION, "redis_address", '"here"')
    with socket.create_connection((HOST, port)) as connection:
        assert asking.session_of(connection, OURS) == {"redis_address": "here"}
    with socket.create_connection((HOST, port)) as connection, pytest.raises(asking.RefusedError):
        asking.session_of(connection, "another")


@pytest.mark.parametrize(
    "sent",
    [
        b"PING\r\n",
        b"AUTH " + THEIRS.encode() + b"\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\r\n",
        b"*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n",
    ],
)
def test_whoever_does_not_is_told_so_and_left(port: int, sent: bytes) -> None:
    with socket.create_connection((HOST, port)) as connection:
        connection.settimeout(5.0)
        connection.sendall(sent)
        reader = hiredis.Reader()
        reader.feed(connection.recv(1000))
        assert isinstance(reader.gets(), hiredis.ReplyError)
        connection.sendall(gate.LOGIN_TRIES * b"PING\r\n")
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(1000):
                continue


@pytest.mark.parametrize("sent", [b"*x\r\n", b"*1\r\n+OK\r\n", b"*99999999\r\n", b"x" * 10_000])
def test_what_is_no_command_ends_the_connection(port: int, sent: bytes) -> None:
    with socket.create_connection((HOST, port)) as connection:
        connection.settimeout(5.0)
        connection.sendall(sent)
        with pytest.raises((AssertionError, ConnectionResetError)):
            assert connection.recv(1000)


def test_a_server_that_is_gone_is_an_error_and_comes_back(tmp_path: Path) -> None:
    with operators_server(tmp_path) as behind:
        pass
    with running_gate(StoreUrl(HOST, behind, 0, False, "", "")) as port:
        with redis.Redis(HOST, port, password=OURS) as client, pytest.raises(redis.RedisError):
            client.ping()
        with operators_server(tmp_path, port=behind), redis.Redis(HOST, port, password=OURS) as client:
            assert wait_for(lambda: _pings(client) or None, 5.0)


def _pings(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def test_through_tls_with_the_certificate_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with operators_server(tmp_path) as plain, tls_in_front(plain, tmp_path) as (behind, authority):
        url = StoreUrl("localhost", behind, 0, True, "", "")
        with pytest.raises(RayConnectionError, match="self-signed certificate"):
            fitness.check(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        assert fitness.check(url) == []
        with pytest.raises(RayConnectionError, match=r"hostname|IP address"):  # not the one it is made out to
            fitness.check(StoreUrl(HOST, behind, 0, True, "", ""))
        with running_gate(url) as port, redis.Redis(HOST, port, password=OURS) as client:
            assert client.ping()
