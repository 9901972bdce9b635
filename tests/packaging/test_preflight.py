"""scripts/preflight names what a machine lacks, and the package to install."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PREFLIGHT = Path(__file__).parents[2] / "scripts" / "preflight"
TOOLS = ("sh", "mktemp", "rm", "sed", "uname", "cat", "env")


class Machine:
    """A folder of programs that is the whole PATH: a machine with just these."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for tool in TOOLS:
            place = shutil.which(tool)
            assert place is not None
            (folder / tool).symlink_to(place)

    def program(self, name: str, script: str) -> None:
        path = self.folder / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def python(self, site: str = "") -> None:
        """This interpreter, with lines of Python run before what it is told to run."""
        self.program(
            "python3", f'[ "$1" = -c ] || exec {sys.executable} "$@"\nexec {sys.executable} -c "{site}\n$2"'
        )

    def compiler(self) -> None:
        place = shutil.which("c++") or shutil.which("g++")
        assert place is not None
        self.program("c++", f'PATH={os.environ["PATH"]} exec {place} "$@"')

    def preflight(self) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.folder)}
        return subprocess.run([PREFLIGHT], env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_complete_machine_passes_silently(machine: Machine) -> None:
    machine.python()
    machine.compiler()
    result = machine.preflight()
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_everything_missing_is_named_at_once(machine: Machine) -> None:
    result = machine.preflight()
    assert result.returncode == 1
    assert "python3: not found" in result.stderr
    assert "apt-get install python3 python3-venv python3-dev" in result.stderr
    assert "no C++ compiler" in result.stderr
    assert "apt-get install g++" in result.stderr


def test_another_system_is_refused(machine: Machine) -> None:
    machine.program("uname", "echo Darwin")
    result = machine.preflight()
    assert result.returncode == 1
    assert "Darwin" in result.stderr
    assert "Linux only" in result.stderr


def test_an_old_python_is_named_with_its_version(machine: Machine) -> None:
    machine.compiler()
    machine.program("python3", 'case $1 in -V) echo "Python 3.9.2" ;; *) exit 1 ;; esac')
    result = machine.preflight()
    assert result.returncode == 1
    assert "Python 3.9.2; Python 3.11 or newer is needed" in result.stderr


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_missing_venv_module_is_named_with_its_package(machine: Machine, module: str) -> None:
    machine.compiler()
    machine.python(site=f"import sys; sys.modules['{module}'] = None")
    result = machine.preflight()
    assert result.returncode == 1
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"apt-get install python{version}-venv" in result.stderr


def test_missing_headers_are_named_with_their_package(machine: Machine) -> None:
    machine.compiler()
    machine.python(site="import sysconfig; sysconfig.get_path = lambda name: '/nowhere'")
    result = machine.preflight()
    assert result.returncode == 1
    assert "/nowhere/Python.h" in result.stderr
    assert "-dev" in result.stderr


def test_a_compiler_without_cpp20_is_named_with_what_it_said(machine: Machine) -> None:
    machine.python()
    machine.program("c++", "echo 'unrecognized option -std=c++20' >&2; exit 1")
    result = machine.preflight()
    assert result.returncode == 1
    assert "c++ does not compile C++20" in result.stderr
    assert "| unrecognized option" in result.stderr
