"""The timeline names what ran, where and when."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

import ray

pytestmark = pytest.mark.usefixtures("session")


def test_tasks_and_calls_are_in_the_trace(tmp_path: Path) -> None:
    @ray.remote
    def napping(seconds: float) -> int:
        time.sleep(seconds)
        return os.getpid()

    @ray.remote
    class Napper:
        def another(self) -> None:
            pass

        def nap(self) -> int:
            return os.getpid()

    before_us = time.monotonic_ns() / 1000
    napper = Napper.remote()
    pids = ray.get([napping.remote(0.05), napping.remote(0.05), napper.nap.remote()])
    deadline = time.monotonic() + 10
    while True:
        events = ray.timeline(tmp_path / "trace.json")
        naps = [event for event in events if event["name"] == "napping"]
        calls = [event for event in events if event["cat" if "cat" in event else "ph"] == "actor call"]
        # The last event of a worker is written when it takes its next task, or finds that there is none.
        if len(naps) == 2 and len(calls) == 1:
            break
        assert time.monotonic() < deadline, events
    assert {event["pid"] for event in naps} == set(pids[:2])
    for event in naps:
        assert event["ph"] == "X"
        assert 50_000 <= event["dur"] < 5_000_000
        assert before_us <= event["ts"]
    assert calls[0]["pid"] == pids[2]
    assert calls[0]["name"] == "Napper.nap"
    assert "Napper" in {event["name"] for event in events if event.get("cat") == "actor creation"}
    written: list[dict[str, Any]] = json.loads((tmp_path / "trace.json").read_text())
    assert written == events
