"""The check of the kernel's stub finds what it is for."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def _load() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "check_stub.py"
    spec = importlib.util.spec_from_file_location("check_stub", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_stub = _load()

STUB = """
Data: TypeAlias = bytes | Block
UNIT: int
class KernelError(Exception): ...
class Arena:
    nbytes: int
    @staticmethod
    def attach(fd: int) -> Arena: ...
    def get(self, oid: ObjectID, timeout_ms: int = -1) -> tuple[int, bytes]: ...
    def __hash__(self) -> int: ...
"""

# The same surface as a generator writes it.
BUILT = """
UNIT: int = 10000
class KernelError(Exception):
    pass
class Arena:
    @property
    def nbytes(self) -> int: ...
    @staticmethod
    def attach(fd: int) -> Arena: ...
    def get(self, oid: "ObjectID", timeout_ms: int = -1) -> tuple: ...
    def __hash__(self) -> int: ...
    def __repr__(self) -> str: ...
"""


def differences(stub: str, built: str) -> list[str]:
    found: list[str] = check_stub.differences(check_stub.surface(stub), check_stub.surface(built))
    return found


def test_the_same_surface_in_other_words_agrees() -> None:
    assert differences(STUB, BUILT) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("UNIT: int = 10000", "", "UNIT: in the stub, not in the extension"),
        ("UNIT", "UNIT: int = 1\nOTHER", "OTHER: in the extension, not in the stub"),
        ("KernelError(Exception)", "KernelError(ValueError)", "class(Exception)"),
        ("oid:", "object_id:", "the extension (self, object_id, timeout_ms=)"),
        ("timeout_ms: int = -1", "timeout_ms: int", "the extension (self, oid, timeout_ms)"),
        ("timeout_ms: int = -1", "timeout_ms: int = -1, /", "timeout_ms=, /)"),
        ("@staticmethod", "", "the stub says static (fd)"),
        ("    def __hash__(self) -> int: ...\n", "", "Arena.__hash__: in the stub, not in the extension"),
        ("def get(", "def fetch(", "Arena.fetch: in the extension, not in the stub"),
    ],
)
def test_a_difference_is_named(old: str, new: str, says: str) -> None:
    assert old in BUILT
    lines = differences(STUB, BUILT.replace(old, new))
    assert any(says in line for line in lines), lines


def test_the_stub_agrees_with_the_extension_built_here() -> None:
    stub = check_stub.surface(check_stub.STUB.read_text())
    assert check_stub.differences(stub, check_stub.built_surface(stub)) == []
