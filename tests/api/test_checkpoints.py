"""Actors with checkpoint_interval: what is restored after their process died, and what runs again."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

import ray
from ray import errors

TIMEOUT_MS = 30_000
pytestmark = pytest.mark.usefixtures("cluster")


class Journal:
    """Writes down, outside of its process, each call that it runs."""

    def __init__(self, log: str) -> None:
        self.log = log
        self.total = 0
        self._note("made")

    def _note(self, words: str) -> None:
        with open(self.log, "a") as file:
            file.write(words + "\n")

    def add(self, by: int) -> int:
        self.total += by
        self._note(f"add {by}")
        return self.total

    def pid(self) -> int:
        return os.getpid()


class Careful(Journal):
    """Saves and restores only what matters."""

    def __ray_save__(self) -> Any:
        self._note(f"saved {self.total}")
        return {"log": self.log, "total": self.total}

    def __ray_restore__(self, state: Any) -> None:
        self.log = state["log"]
        self.total = state["total"]
        self._note(f"restored {self.total}")


def killed(actor: Any) -> int:
    pid = int(ray.get(actor.pid.remote(), timeout=TIMEOUT_MS))
    os.kill(pid, signal.SIGKILL)
    return pid


@pytest.mark.statement("more-actors-05", "decorator-09")
def test_the_state_comes_back(tmp_path: Path) -> None:
    """Every sum is as if nothing had happened; the calls since the last checkpoint ran twice."""
    log = tmp_path / "log"
    actor = ray.remote(checkpoint_interval=3)(Journal).remote(str(log))
    before = ray.get(actor.pid.remote(), timeout=TIMEOUT_MS)
    ids = [actor.add.remote(number) for number in (1, 2, 3, 4)]
    assert ray.get(ids, timeout=TIMEOUT_MS) == [1, 3, 6, 10]
    os.kill(before, signal.SIGKILL)  # two calls after the first checkpoint
    assert ray.get(actor.add.remote(100), timeout=TIMEOUT_MS) == 110
    assert ray.get(actor.pid.remote()) != before
    assert ray.get(ids) == [1, 3, 6, 10]
    notes = log.read_text().splitlines()
    assert notes.count("made") == 1  # restored, not constructed again
    assert [notes.count(f"add {number}") for number in (1, 2, 3, 4, 100)] == [1, 1, 2, 2, 1]


@pytest.mark.statement("more-actors-05")
def test_before_the_first_checkpoint_it_is_constructed_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    actor = ray.remote(checkpoint_interval=100)(Journal).remote(str(log))
    assert ray.get([actor.add.remote(1), actor.add.remote(2)], timeout=TIMEOUT_MS) == [1, 3]
    killed(actor)
    assert ray.get(actor.add.remote(4), timeout=TIMEOUT_MS) == 7
    assert log.read_text().splitlines() == ["made", "add 1", "add 2"] * 2 + ["add 4"]


@pytest.mark.statement("more-actors-06", "decorator-09")
def test_save_and_restore(tmp_path: Path) -> None:
    log = tmp_path / "log"
    actor = ray.remote(checkpoint_interval=2)(Careful).remote(str(log))
    assert ray.get([actor.add.remote(number) for number in (1, 2, 4)], timeout=TIMEOUT_MS) == [1, 3, 7]
    killed(actor)  # its pid was the fourth call: saved again
    assert ray.get(actor.add.remote(8), timeout=TIMEOUT_MS) == 15
    notes = log.read_text().splitlines()
    assert "saved 3" in notes
    assert any(each.startswith("restored ") for each in notes)
    assert notes.count("made") == 1


@pytest.mark.statement("more-actors-05")
def test_it_survives_again_and_again(tmp_path: Path) -> None:
    actor = ray.remote(checkpoint_interval=5)(Journal).remote(str(tmp_path / "log"))
    pids = set()
    total = 0
    for round_number in range(4):
        for _ in range(7):
            total += 1
            assert ray.get(actor.add.remote(1), timeout=TIMEOUT_MS) == total, round_number
        pids.add(killed(actor))
    assert len(pids) == 4


@pytest.mark.statement("more-actors-05")
def test_calls_queued_at_its_death_are_done(tmp_path: Path) -> None:
    @ray.remote(checkpoint_interval=2)
    class Dies:
        def __init__(self) -> None:
            self.total = 0

        def add(self, by: int) -> int:
            self.total += by
            return self.total

        def die_once(self) -> str:
            mark = tmp_path / "died"
            if not mark.exists():
                mark.touch()
                os._exit(1)
            return "lived"

    actor = Dies.remote()
    ids = [actor.add.remote(1), actor.add.remote(1), actor.add.remote(1), actor.die_once.remote()]
    ids += [actor.add.remote(1) for _ in range(5)]
    assert ray.get(ids, timeout=TIMEOUT_MS) == [1, 2, 3, "lived", 4, 5, 6, 7, 8]


@pytest.mark.statement("more-actors-07", "more-actors-05")
def test_a_killed_one_does_not_come_back(tmp_path: Path) -> None:
    actor = ray.remote(checkpoint_interval=1)(Journal).remote(str(tmp_path / "log"))
    assert ray.get(actor.add.remote(1), timeout=TIMEOUT_MS) == 1
    ray.kill(actor)
    with pytest.raises(errors.ActorKilledError):
        ray.get(actor.add.remote(1), timeout=TIMEOUT_MS)


@pytest.mark.statement("decorator-09")
@pytest.mark.parametrize("interval", [0, -1, 1.5, "2"])
def test_senseless_intervals(interval: Any) -> None:
    with pytest.raises((errors.ArgumentError, errors.ArgumentTypeError), match="checkpoint_interval"):
        ray.remote(checkpoint_interval=interval)(Journal)
