import dataclasses
import pathlib
import re

import pytest

from ray import config
from ray.config import DEFAULTS, LIMITS, Config, Limits, table
from ray.errors import ArgumentError, ArgumentTypeError

UNITS = ("_ms", "_bytes", "_fraction", "_limit", "_entries", "_elements", "_chain", "_batch")


def test_without_overrides_the_defaults_hold():
    assert Config.with_overrides() == Config.with_overrides({}) == DEFAULTS
    assert DEFAULTS.store_fraction == 0.30
    assert DEFAULTS.store_full_wait_ms == 10_000
    assert LIMITS.error_bytes == 65_536
    assert (LIMITS.argument_entries, LIMITS.argument_elements) == (100, 1000)


def test_overrides_change_only_what_they_name():
    changed = Config.with_overrides({"worker_limit": 8, "store_fraction": 1})
    assert changed == dataclasses.replace(DEFAULTS, worker_limit=8, store_fraction=1.0)
    assert isinstance(changed.store_fraction, float)


def test_the_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEFAULTS.worker_limit = 3  # type: ignore[misc]


def test_an_unknown_setting_is_refused_with_the_nearest_name():
    with pytest.raises(ArgumentError, match="Did you mean 'worker_limit'"):
        Config.with_overrides({"workers_limit": 3})
    with pytest.raises(ArgumentError, match="The settings are: store_fraction, "):
        Config.with_overrides({"zzz": 3})
    with pytest.raises(ArgumentError, match="no setting 5"):
        Config.with_overrides({5: 3})
    with pytest.raises(ArgumentError, match="'error_bytes' is fixed"):
        Config.with_overrides({"error_bytes": 3})


@pytest.mark.parametrize("value", ["8", None, 2.5, True, float("nan")])
def test_a_wrong_type_is_refused(value):
    with pytest.raises(ArgumentTypeError, match=r"'worker_limit' must be a whole number, not"):
        Config.with_overrides({"worker_limit": value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("worker_limit", 0), ("term_grace_ms", -1), ("store_fraction", 1.5), ("store_fraction", float("nan"))],
)
def test_a_number_out_of_range_is_refused(name, value):
    with pytest.raises(ArgumentError, match=name):
        Config.with_overrides({name: value})


def test_overrides_that_are_no_mapping_are_refused():
    with pytest.raises(ArgumentTypeError, match="mapping"):
        Config.with_overrides([("worker_limit", 3)])  # type: ignore[arg-type]


@pytest.mark.parametrize("field", dataclasses.fields(Config), ids=lambda field: field.name)
def test_each_setting_has_a_unit_a_reason_and_a_valid_default(field):
    assert field.name.endswith(UNITS)
    assert field.metadata["reason"].endswith(".")
    assert Config.with_overrides({field.name: field.default}) == DEFAULTS
    assert f"| `{field.name}` | " in table()


@pytest.mark.parametrize("field", dataclasses.fields(Limits), ids=lambda field: field.name)
def test_each_limit_has_a_unit_and_a_reason(field):
    assert field.name.endswith(UNITS)
    assert field.metadata["reason"].endswith(".")
    assert f"| `{field.name}` | " in table()


@pytest.mark.parametrize(
    "field", [*dataclasses.fields(Config), *dataclasses.fields(Limits)], ids=lambda f: f.name
)
def test_each_number_is_used_somewhere(field):
    package = pathlib.Path(config.__file__).parent
    sources = [path.read_text() for path in package.rglob("*.py") if path.name != "config.py"]
    assert any(re.search(rf"\b{field.name}\b", source) for source in sources)
