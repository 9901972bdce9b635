import os
import stat
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.core import script_code
from ray.core.script_code import DamagedCodeError


def write(folder: Path, *paths: str, size: int = 0) -> None:
    for path in paths:
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(f"# {path}\n".encode() + b"#" * size)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    write(
        folder,
        "main.py",
        "helpers.py",
        "package/__init__.py",
        "package/inner/deep.py",
        "package/data/table.json",
        "package/__pycache__/inner.pyc",
        "plain/module.py",
        "plain/notes.txt",
        "native.so",
        "data/huge.bin",
        "not-a-name.py",
        ".git/hook.py",
        "venv/pyvenv.cfg",
        "venv/lib/thing.py",
        "venv/top.py",
    )
    return folder


TRAVELS = [
    "helpers.py",
    "main.py",
    "native.so",
    "not-a-name.py",
    "package/__init__.py",
    "package/data/table.json",
    "package/inner/deep.py",
    "plain/module.py",
]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_names_of_the_modules(project: Path) -> None:
    described = script_code.describe(str(project))
    assert described is not None
    assert described["names"] == ["helpers", "main", "native", "package", "plain"]
    assert described["place"] == script_code.place_of(str(project)) != ""
    (project.parent / "empty").mkdir()
    assert script_code.describe(str(project.parent / "empty")) is None
    assert script_code.place_of(str(project / "nowhere")) == ""


def test_there_and_back(project: Path, tmp_path: Path) -> None:
    packed = script_code.pack(str(project))
    into = tmp_path / "code" / packed.digest
    script_code.unpack(packed.data, packed.digest, str(into))
    assert files(into) == TRAVELS
    for path in TRAVELS:
        assert (into / path).read_bytes() == (project / path).read_bytes()
    assert packed.left_out == []
    for path in (into, *into.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert os.listdir(tmp_path / "code") == [packed.digest]


def test_the_same_content_has_the_same_name(project: Path, tmp_path: Path) -> None:
    packed = script_code.pack(str(project))
    other = tmp_path / "other"
    write(other, *reversed(TRAVELS))
    assert script_code.pack(str(other)).digest == packed.digest
    (other / "helpers.py").write_text("changed")
    assert script_code.pack(str(other)).digest != packed.digest


def test_what_is_too_much_is_named(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script_code, "FILE_BYTES", 1000)
    monkeypatch.setattr(script_code, "CODE_BYTES", 1500)
    write(project, "big.py", size=1000)
    write(project, "package/a.bin", "package/b.bin", size=700)
    packed = script_code.pack(str(project))
    assert [each.partition(" ")[0] for each in packed.left_out] == ["big.py", "package/b.bin"]
    assert "1,000" in packed.left_out[0]
    assert "1,500" in packed.left_out[1]
    said = script_code.said(str(project), packed.left_out)
    assert "big.py" in said
    assert "same path" in said
    script_code.unpack(packed.data, packed.digest, str(tmp_path / "into"))
    assert files(tmp_path / "into") == sorted([*TRAVELS, "package/a.bin"])


def packed_of(*paths: str) -> tuple[bytes, str]:
    """Of a peer that lies."""
    import hashlib
    import json

    header = json.dumps([[path, 1] for path in paths]).encode()
    whole = script_code._HEAD.pack(b"RSC1", len(header)) + header + b"x" * len(paths)
    return zlib.compress(whole), hashlib.sha256(whole).hexdigest()


@pytest.mark.parametrize("path", ["../out.py", "/etc/out.py", "a/../../out.py", "", "a//b", "a/./b", "nul\0"])
def test_nothing_is_written_outside(tmp_path: Path, path: str) -> None:
    data, digest = packed_of("fine.py", path)
    with pytest.raises(DamagedCodeError):
        script_code.unpack(data, digest, str(tmp_path / "code" / digest))
    assert files(tmp_path) == []


def test_another_content_is_refused(project: Path, tmp_path: Path) -> None:
    packed = script_code.pack(str(project))
    with pytest.raises(DamagedCodeError, match="digest"):
        script_code.unpack(packed.data, "0" * 64, str(tmp_path / "code" / "0"))
    bomb = zlib.compress(bytes(script_code.CODE_BYTES + (16 << 20)))
    with pytest.raises(DamagedCodeError):
        script_code.unpack(bomb, "0" * 64, str(tmp_path / "code" / "0"))


@given(st.binary(max_size=200), st.booleans())
def test_damaged_bytes(data: bytes, is_compressed: bool) -> None:
    with pytest.raises(DamagedCodeError):
        script_code.unpack(zlib.compress(data) if is_compressed else data, "0" * 64, "/nowhere/at/all")


FOLDER = "from ray.core.script_code import script_folder; print(script_folder())"


def test_the_folder_of_a_program(tmp_path: Path) -> None:
    write(tmp_path, "package/__init__.py")
    for place in (tmp_path / "script.py", tmp_path / "package" / "module.py"):
        place.write_text(FOLDER)

    def said(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert said("script.py") == said("-m", "package.module") == str(tmp_path)
    assert said("package/module.py") == str(tmp_path / "package")
    assert said("-c", FOLDER) == "None"
    assert said("-P", "script.py") == "None"  # it imports nothing from there itself
