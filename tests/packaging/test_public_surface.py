"""What `import ray` offers: exactly these names, with types that a user's checker sees."""

import importlib.metadata
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import ray

# Adding or removing a name is a decision about the API: change this list and CHANGELOG.md together.
PUBLIC_NAMES = {
    # starting, stopping, looking
    "init",
    "shutdown",
    "is_initialized",
    "nodes",
    "cluster_resources",
    "available_resources",
    "error_info",
    "timeline",
    # tasks, actors, objects
    "remote",
    "method",
    "get",
    "put",
    "wait",
    "kill",
    "map",
    "get_gpu_ids",
    "ObjectID",
    "ObjectRef",
    # modes of init
    "SCRIPT_MODE",
    "WORKER_MODE",
    "PYTHON_MODE",
    "SILENT_MODE",
    # modules
    "errors",
    "worker",
    "__version__",
}


def test_all_is_exactly_the_public_names() -> None:
    assert set(ray.__all__) == PUBLIC_NAMES
    assert len(ray.__all__) == len(set(ray.__all__))


@pytest.mark.parametrize("name", sorted(PUBLIC_NAMES))
def test_each_public_name_is_there(name: str) -> None:
    assert hasattr(ray, name)


def test_nothing_else_is_public() -> None:
    """Submodules get into the namespace by being imported; everything else must be meant."""
    others = {
        name
        for name, value in vars(ray).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name not in PUBLIC_NAMES
    }
    assert others == set()


def test_public_functions_say_what_they_do() -> None:
    silent = [
        name
        for name in PUBLIC_NAMES
        if callable(value := getattr(ray, name)) and not (value.__doc__ or "").strip()
    ]
    assert silent == []


def test_version_is_the_distributions() -> None:
    assert ray.__version__ == importlib.metadata.version("raycore")


def test_a_program_of_the_user_is_type_checked_against_the_package(tmp_path: Path) -> None:
    """py.typed is found, and wrong use of a public function is an error of mypy's."""
    program = tmp_path / "program.py"
    program.write_text(
        "import ray\n"
        "ids: list[ray.ObjectID] = [ray.put(1), ray.put(2)]\n"
        "ready, rest = ray.wait(ids, num_returns=1, timeout=1000)\n"
        "ray.wait(ids, no_such_parameter=1)\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", str(program)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    errors = [line for line in result.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1, result.stdout + result.stderr
    assert "program.py:4" in errors[0]
    assert "no_such_parameter" in errors[0]
