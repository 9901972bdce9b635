"""The token: read only from where nobody else can have put it, and shown nowhere."""

import os
import pickle
import stat
from pathlib import Path

import pytest

from ray.errors import ClusterTokenError
from ray.wire.token import ClusterToken, default_path

TOKEN = ClusterToken(bytes(range(32)))
TEXT = "ray-token-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"


def saved(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / "token"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_text_and_back() -> None:
    assert TOKEN.text == TEXT
    assert ClusterToken.parse(f" {TEXT}\n") == TOKEN
    assert ClusterToken.new() != ClusterToken.new()
    assert hash(ClusterToken.parse(TEXT)) == hash(TOKEN)


def test_what_is_no_token_is_refused_and_not_repeated() -> None:
    for text, words in (
        ("", "it is empty"),
        ("hello", "begins with 'ray-token-1:'"),
        (TEXT[:-1], "43 letters"),
        (TEXT + "A", "43 letters"),
        (TEXT[:-1] + "!", "43 letters"),
        (TEXT[:-1] + "9", "last character"),
        (TEXT.replace("-1:", "-2:"), "newer release"),
        (TEXT + "\n" + TEXT, "43 letters"),
        (TEXT[:-1] + "é", "43 letters"),
    ):
        with pytest.raises(ClusterTokenError, match=words) as refused:
            ClusterToken.parse(text, "a test")
        assert refused.value.path == "a test"
        assert "AAECAw" not in str(refused.value)


def test_it_is_shown_nowhere() -> None:
    assert "AAEC" not in repr(TOKEN) + str(TOKEN) + f"{TOKEN}"
    with pytest.raises(TypeError, match="pass its file's path"):
        pickle.dumps(TOKEN)
    with pytest.raises(ValueError, match="32 bytes, not 3"):
        ClusterToken(b"abc")


def test_keys_by_label_as_rfc_5869_has_them() -> None:
    """And as another implementation of it."""
    assert TOKEN.derive("a", 80)[:32] == TOKEN.derive("a", 32)
    assert TOKEN.derive("a", 32) != TOKEN.derive("b", 32)
    with pytest.raises(ValueError, match="not 8161"):
        TOKEN.derive("a", 8161)
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    theirs = HKDF(SHA256(), 100, b"ray-token-1", b"a").derive(bytes(range(32)))
    assert TOKEN.derive("a", 100) == theirs


def test_saved_and_loaded(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "folder" / "token")
    before = os.umask(0o777)
    try:
        os.umask(0o077)
        assert TOKEN.save(path) == path
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    assert ClusterToken.load(path) == TOKEN
    other = ClusterToken.new()
    other.save(path)
    assert ClusterToken.load(path) == other
    assert os.listdir(os.path.dirname(path)) == ["token"]


def test_where_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TOKEN_FILE", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/u")
    assert default_path() == "/home/u/.config/ray/token"
    monkeypatch.setenv("XDG_CONFIG_HOME", "not/absolute")
    assert default_path() == "/home/u/.config/ray/token"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_path() == f"{tmp_path}/ray/token"
    monkeypatch.setenv("RAY_TOKEN_FILE", f"{tmp_path}/mine")
    TOKEN.save()
    assert ClusterToken.load() == TOKEN
    assert os.listdir(tmp_path) == ["mine"]


def test_a_file_that_others_can_reach(tmp_path: Path) -> None:
    for mode in (0o640, 0o604, 0o660, 0o777):
        with pytest.raises(ClusterTokenError, match=f"its mode is {mode:04o}.*chmod 600"):
            ClusterToken.load(saved(tmp_path, TEXT, mode))


def test_a_file_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, TEXT)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ClusterTokenError, match=r"belongs to user \d+, and you are user"):
        ClusterToken.load(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    link, fifo = tmp_path / "link", tmp_path / "fifo"
    link.symlink_to(saved(tmp_path, TEXT))
    os.mkfifo(fifo, 0o600)
    for path, words in (
        (str(link), "symbolic link"),
        (str(fifo), "not a plain file"),
        (str(tmp_path), "not a plain file"),
        (str(tmp_path / "absent"), r"no such file.*ray start --head.*RAY_TOKEN_FILE"),
        (saved(tmp_path, "x" * 1000), "more than 256 bytes"),
    ):
        with pytest.raises(ClusterTokenError, match=words):
            ClusterToken.load(path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ClusterTokenError, match="can't be written"):
        TOKEN.save(str(tmp_path / "file" / "token"))
