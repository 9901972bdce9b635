"""`pip wheel .`: what is in the wheel, and that it works in an environment without the checkout."""

import fcntl
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    # What was compiled for this checkout is what a wheel needs: `make build` has its lock meanwhile.
    options += [f"--config-settings=build-dir={BUILD}/develop", f"--wheel-dir={folder}"]
    with (BUILD / "build.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(ROOT)], check=True, timeout=300)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
@pytest.mark.timeout(360)
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    sources = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src" / "ray").rglob("*")
        if path.suffix in (".py", ".pyi") or path.name == "py.typed"
    }
    package = {name for name in names if ".dist-info/" not in name}
    extensions = {name for name in package if name.startswith("ray/_kernel.") and name.endswith(".so")}
    (extension,) = extensions
    assert b".debug_info" not in zipfile.ZipFile(wheel).read(extension)
    assert package - extensions == sources
    assert any(name.endswith("/LICENSE") for name in names)


@pytest.mark.slow
@pytest.mark.timeout(360)
def test_the_wheels_metadata(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (place,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = HeaderParser().parsestr(archive.read(place).decode())
    assert metadata["Name"] == "raycore"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    tag = wheel.name.split("-")
    expected = "cp311" if sys.version_info < (3, 12) else "abi3"
    assert tag[3] == expected
    assert "linux" in tag[4]


@pytest.mark.slow
@pytest.mark.timeout(360)
def test_the_wheel_runs_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Unpacked elsewhere and run with the dependencies of this environment, the checkout out of sight."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    program = tmp_path / "program.py"
    program.write_text(
        "import ray, sys\n"
        f"assert ray.__file__.startswith({str(tmp_path)!r}), ray.__file__\n"
        "ray.init(num_cpus=1)\n"
        "print(ray.get(ray.remote(lambda x: x + 1).remote(41)))\n"
        "ray.shutdown()\n"
    )
    result = subprocess.run(
        [sys.executable, str(program)],
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stdout) == (0, "42\n"), result.stderr
