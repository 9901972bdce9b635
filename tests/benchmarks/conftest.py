"""The benchmarks' own modules, whose folder is on the path only when they run."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = (
    "bars",
    "environments",
    "memory",
    "plot",
    "publish",
    "report",
    "streams",
    "questions",
    "peers",
    "work",
    "run",
    "machine",
)


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    for name in [name for name in sys.modules if name.split(".")[0] in NAMES]:
        del sys.modules[name]
