"""The check of imports sees each way to break its rules."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_imports.py"
ROOMS = {"core", "policy", "errors", "session"}


def broken_rules(source: str, room: str) -> list[str]:
    spec = importlib.util.spec_from_file_location("check_imports", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [wrong for _, wrong in module.broken_rules(source, room, ROOMS)]


@pytest.mark.parametrize(
    "source",
    [
        "import ray._kernel",
        "from ray._kernel import Arena",
        "from ray import _kernel",
        "def f():\n    import ray._kernel as kernel",
        "import ray\nray._kernel.UNIT",
    ],
)
def test_the_kernel_stays_out_of_policy_and_may_be_in_core(source: str) -> None:
    assert any("ray.policy may not import ray._kernel" in wrong for wrong in broken_rules(source, "policy"))
    assert broken_rules(source, "core") == []


@pytest.mark.parametrize(
    "source", ["from ray import get", "import ray\nray.get(1)", "import ray\nx = [ray.ObjectID]"]
)
def test_no_room_uses_the_packages_face(source: str) -> None:
    assert any("the package's face to users" in wrong for wrong in broken_rules(source, "core"))


@pytest.mark.parametrize("source", ["from . import sibling", "from .. import _kernel", "from .x import y"])
def test_relative_imports_are_refused(source: str) -> None:
    assert broken_rules(source, "core") == ["relative import; write the module's full name"]


@pytest.mark.parametrize(
    "source",
    [
        "from ray import errors",
        "import ray.core.actor",
        "from ray.core import actor",
        "import ray\nray.__file__",
        "import os",
    ],
)
def test_other_imports_are_let_be(source: str) -> None:
    assert broken_rules(source, "policy") == []
