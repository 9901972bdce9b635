"""Time-outs are whole milliseconds."""

import datetime
from typing import Any

import numpy as np
import pytest

from ray.core.timeouts import FOREVER_MS, MAX_MS, milliseconds


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [
        (None, FOREVER_MS),
        (0, 0),
        (2500, 2500),
        (np.int64(7), 7),
        (datetime.timedelta(seconds=1.5), 1500),
        (datetime.timedelta(microseconds=1), 1),
        (datetime.timedelta(0), 0),
    ],
)
def test_accepted(timeout: Any, expected: int) -> None:
    assert milliseconds(timeout) == expected


@pytest.mark.parametrize("timeout", [1.0, 0.5, "1", True, False, [1]])
def test_refused_types_are_told_of_timedelta(timeout: Any) -> None:
    with pytest.raises(TypeError, match="timedelta"):
        milliseconds(timeout)


@pytest.mark.parametrize("timeout", [-1, MAX_MS + 1, datetime.timedelta(seconds=-1)])
def test_refused_values(timeout: Any) -> None:
    with pytest.raises(ValueError, match="milliseconds"):
        milliseconds(timeout)
