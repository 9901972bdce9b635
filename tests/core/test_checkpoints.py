"""Actors with checkpoints: what runs again after a death, and what does not."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ray

pytestmark = pytest.mark.usefixtures("session")


class Recorder:
    """Writes each thing that happens to it as a line of a file."""

    def __init__(self, log: str) -> None:
        self.log = log
        self.values: list[int] = []
        self._note("made")

    def append(self, value: int) -> list[int]:
        self._note(f"append {value}")
        self.values.append(value)
        return self.values

    def die(self) -> None:
        marker = Path(self.log + ".died")
        if not marker.exists():
            marker.touch()
            os._exit(1)

    def _note(self, text: str) -> None:
        with open(self.log, "a") as file:
            file.write(text + "\n")


class Saving(Recorder):
    def __ray_save__(self) -> Any:
        self._note("saved")
        return self.log, self.values

    def __ray_restore__(self, state: Any) -> None:
        self.log, self.values = state
        self._note("restored")


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines()


@pytest.mark.parametrize("kind", [Recorder, Saving])
def test_restored_from_the_last_checkpoint(kind: type, tmp_path: Path) -> None:
    log = tmp_path / "log"
    actor = ray.remote(checkpoint_interval=2)(kind).remote(str(log))
    for value in range(5):
        last = ray.get(actor.append.remote(value))
    assert last == [0, 1, 2, 3, 4]
    ray.get(actor.die.remote())
    assert ray.get(actor.append.remote(5)) == [0, 1, 2, 3, 4, 5]
    text = lines(log)
    assert text.count("made") == 1
    # Call 4 came after the last checkpoint, so it ran twice; those before it did not.
    assert [text.count(f"append {value}") for value in range(6)] == [1, 1, 1, 1, 2, 1]
    if kind is Saving:
        assert text.count("restored") == 1
        assert text.index("restored") > text.index("append 4")


def test_a_death_right_after_a_checkpoint_runs_nothing_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    actor = ray.remote(checkpoint_interval=1)(Recorder).remote(str(log))
    assert ray.get([actor.append.remote(value) for value in range(3)])[-1] == [0, 1, 2]
    ray.get(actor.die.remote())
    assert ray.get(actor.append.remote(3)) == [0, 1, 2, 3]
    assert [lines(log).count(f"append {value}") for value in range(4)] == [1, 1, 1, 1]


def test_without_a_checkpoint_yet_the_constructor_runs_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    actor = ray.remote(checkpoint_interval=100)(Recorder).remote(str(log))
    ray.get([actor.append.remote(0), actor.append.remote(1)])
    ray.get(actor.die.remote())
    assert ray.get(actor.append.remote(2)) == [0, 1, 2]
    assert lines(log) == ["made", "append 0", "append 1", "made", "append 0", "append 1", "append 2"]


def test_a_state_that_can_not_be_saved_is_reported_and_the_actor_goes_on(tmp_path: Path) -> None:
    @ray.remote(checkpoint_interval=1)
    class Unsaved:
        def __init__(self) -> None:
            self.calls = 0

        def __ray_save__(self) -> Any:
            raise RuntimeError("disk on fire")

        def call(self) -> int:
            self.calls += 1
            return self.calls

    actor = Unsaved.remote()
    assert ray.get([actor.call.remote() for _ in range(3)]) == [1, 2, 3]
    messages = [error["message"] for error in ray.error_info()]
    assert sum("disk on fire" in message and "__ray_save__" in message for message in messages) >= 2


def test_a_state_that_can_not_be_restored_reaches_every_call() -> None:
    @ray.remote(checkpoint_interval=1)
    class Unrestorable:
        def __ray_save__(self) -> Any:
            return 1

        def __ray_restore__(self, state: Any) -> None:
            raise RuntimeError("cannot go back")

        def call(self) -> None: ...

        def die(self) -> None:
            os._exit(1)

    actor = Unrestorable.remote()
    ray.get(actor.call.remote())
    actor.die.remote()
    with pytest.raises(RuntimeError, match="cannot go back"):
        ray.get(actor.call.remote(), timeout=20_000)


def test_arrays_in_the_state_can_be_changed_after_a_restart(tmp_path: Path) -> None:
    @ray.remote(checkpoint_interval=1)
    class Model:
        def __init__(self) -> None:
            self.weights = np.zeros(100_000)

        def step(self) -> float:
            self.weights += 1
            return float(self.weights.sum())

        def die(self, marker: str) -> None:
            if not os.path.exists(marker):
                Path(marker).touch()
                os._exit(1)

    model = Model.remote()
    assert ray.get(model.step.remote()) == 100_000
    ray.get(model.die.remote(str(tmp_path / "died")))
    assert ray.get(model.step.remote()) == 200_000


def test_ids_in_the_state_are_kept(tmp_path: Path) -> None:
    @ray.remote(checkpoint_interval=1)
    class Holder:
        def __init__(self) -> None:
            self.ids: list[Any] = []

        def keep(self, value: Any) -> None:
            self.ids.append(ray.put(value))

        def all(self) -> list[Any]:
            return list(ray.get(self.ids))

        def die(self, marker: str) -> None:
            if not os.path.exists(marker):
                Path(marker).touch()
                os._exit(1)

    holder = Holder.remote()
    ray.get([holder.keep.remote(value) for value in ("a", "b")])
    ray.get(holder.die.remote(str(tmp_path / "died")))
    assert ray.get(holder.all.remote()) == ["a", "b"]
