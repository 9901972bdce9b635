"""The rule that keeps the kernel out of rooms that decide, and the import that breaks it."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_kernel_imports.py"


def imports_kernel(source: str) -> bool:
    spec = importlib.util.spec_from_file_location("check_kernel_imports", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: bool = module.imports_kernel(source)
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import ray._kernel",
        "from ray._kernel import Arena",
        "from ray import _kernel",
        "from .. import _kernel",
        "def f():\n    import ray._kernel as kernel",
    ],
)
def test_every_way_to_import_the_kernel_is_seen(source: str) -> None:
    assert imports_kernel(source)


@pytest.mark.parametrize("source", ["import ray", "from ray.core import kernel_errors", "_kernel = 1"])
def test_other_imports_are_let_be(source: str) -> None:
    assert not imports_kernel(source)
