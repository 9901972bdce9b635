"""Servers that are there already: which will do, and what is said of those that won't."""

import socket
from pathlib import Path

import pytest

from ray.control_store import fitness, schema
from ray.control_store.fitness import StoreSession
from ray.control_store.url import StoreUrl
from ray.errors import InitError, RayConnectionError
from tests.control_store.operators import ENOUGH, HOST, PASSWORD, QUOTED, operators_server


def url_of(port: int, user: str = "", password: str = "", database: int = 0) -> StoreUrl:
    return StoreUrl(HOST, port, database, False, user, password)


def test_a_server_with_a_password_will_do(tmp_path: Path) -> None:
    with operators_server(tmp_path, f'requirepass "{PASSWORD}"') as port:
        assert fitness.check(StoreUrl.parse(f"redis://:{QUOTED}@{HOST}:{port}/3", "a test")) == []


def test_what_the_error_says_is_enough_is_enough(tmp_path: Path) -> None:
    with operators_server(tmp_path, f"user ada on >secret {ENOUGH}") as port:
        assert fitness.check(url_of(port, "ada", "secret")) == []


@pytest.mark.parametrize(
    ("settings", "user", "password", "reason"),
    [
        (["requirepass secret"], "", "wrong", "does not let the default user in"),
        (["requirepass secret"], "", "", "the URL has none"),
        (["user ada on >secret ~ray:* +@all"], "bob", "secret", "does not let the user 'bob' in"),
        (["user ada on >secret ~other:* +@all"], "ada", "secret", "may not HSET"),
        (
            ["user ada on >secret ~ray:* +@all -xadd"],
            "ada",
            "secret",
            "may not XADD on keys that begin with ray:",
        ),
        (["maxmemory 100mb", "maxmemory-policy allkeys-lru"], "", "", "maxmemory-policy allkeys-lru"),
        (["replicaof 127.0.0.1 1"], "", "", "it is a replica"),
    ],
)
def test_what_will_not_do_is_told_why(
    tmp_path: Path, settings: list[str], user: str, password: str, reason: str
) -> None:
    with operators_server(tmp_path, *settings) as port:
        with pytest.raises(InitError, match=reason) as refused:
            fitness.check(url_of(port, user, password))
        assert "secret" not in str(refused.value)
        assert "wrong" not in str(refused.value)


def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    with operators_server(tmp_path, "databases 4") as port, pytest.raises(InitError, match="its database 7"):
        fitness.check(url_of(port, database=7))


def test_an_old_server_is_named_with_what_is_needed() -> None:
    with pytest.raises(InitError, match=r"it is Redis 5\.0\.7, and at least 6\.0 is needed"):
        fitness.check_version(url_of(1), {"redis_version": "5.0.7"})
    fitness.check_version(
        url_of(1), {"server_name": "valkey", "valkey_version": "8.1", "redis_version": "7.2"}
    )


def test_without_an_append_only_file_the_operator_is_told(tmp_path: Path) -> None:
    with operators_server(tmp_path, "appendonly no") as port:
        (notice,) = fitness.check(url_of(port))
        assert "no append-only file" in notice


def test_what_a_dead_cluster_has_left_is_cleared_and_a_living_one_keeps_its_own(tmp_path: Path) -> None:
    with operators_server(tmp_path) as port, socket.create_server((HOST, 0)) as head:
        url = url_of(port)
        with StoreSession.opened(url) as session:
            for place in (schema.PLACE, "theirs"):
                session.ask("SET", place, "17")
            session.ask("HSET", schema.SESSION, "link_address", f'"{HOST}:{head.getsockname()[1]}"')
        with pytest.raises(InitError, match="another cluster uses its database 0"):
            fitness.check(url)
        head.close()
        fitness.check(url)
        with StoreSession.opened(url) as session:
            assert session.ask("KEYS", "*") == [b"theirs"]


def test_nobody_there_and_somebody_else(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(RayConnectionError, match="can't be reached: Connection refused"):
        fitness.check(url_of(port))
    with operators_server(tmp_path) as port, pytest.raises(RayConnectionError, match="TLS"):
        fitness.check(StoreUrl(HOST, port, 0, True, "", ""))
