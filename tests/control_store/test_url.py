"""URLs of control stores: what is one, and that none shows its password."""

import os
from pathlib import Path

import pytest

from ray.control_store.url import StoreUrl
from ray.errors import InitError


def test_its_parts() -> None:
    url = StoreUrl.parse("rediss://ada:s%40cret@store.example.org:6380/2", "a test")
    assert url == StoreUrl("store.example.org", 6380, 2, True, "ada", "s@cret")
    assert url.login == ("AUTH", "ada", "s@cret")
    assert StoreUrl.parse("redis://[::1]", "a test") == StoreUrl("::1", 6379, 0, False, "", "")


def test_none_shows_its_password() -> None:
    url = StoreUrl.parse("redis://ada:s3cret@h:1/2", "a test")
    assert str(url) == "redis://ada@h:1/2"
    assert "s3cret" not in repr(url)


@pytest.mark.parametrize(
    "text",
    ["", "store:6379", "http://ada:s3cret@h/", "redis://", "redis://:s3cret@h:99999", "redis://:s3cret@h/x",
     "redis://:s3cret@h/1?tls=1", "redis://ada@h/", "redis://:s3cret@[h/"],
)  # fmt: skip
def test_what_is_none_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InitError, match="a test") as refused:
        StoreUrl.parse(text, "a test")
    assert "s3cret" not in str(refused.value)


def test_from_a_file_that_nobody_else_reads(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("redis://:s3cret@h/1\n")
    path.chmod(0o640)
    with pytest.raises(InitError, match="chmod 600"):
        StoreUrl.load(str(path))
    path.chmod(0o600)
    assert StoreUrl.load(str(path)).password == "s3cret"
    with pytest.raises(InitError, match="can't be read"):
        StoreUrl.load(str(tmp_path / "nothing"))
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(InitError, match="no plain file"):
        StoreUrl.load(str(tmp_path / "pipe"))
