"""The actor that a worker process serves: its instance, and the checkpoints of its state."""

import contextlib
import functools
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, Self

import cloudpickle

from ray._kernel import JOURNAL_ERROR, ObjectID, View, collect
from ray.core.definition import Loaded
from ray.core.failures import failed
from ray.core.invocation import Sealed
from ray.core.session_state import Current
from ray.core.store import NO_ROOM, block_of, get, with_room
from ray.core.timeouts import FOREVER_MS
from ray.errors import SerializationError
from ray.serialization import formats
from ray.serialization.tracebacks import reason_of

# An actor whose interval is longer is saved this often all the same: calls since the last checkpoint are
# kept with their arguments, to be run again.
CALLS_KEPT = 1000

_SAVED = "saved"  # the state is what __ray_save__ returned
_WHOLE = "whole"  # the state is the instance


class ActorHost:
    """One actor.  `name` is its class's."""

    def __init__(self, session: Current, name: str, instance: Any, interval: int) -> None:
        self.name = name
        self.instance = instance
        self._session = session
        self._interval = min(interval, CALLS_KEPT)  # 0: no checkpoints
        self._calls = 0  # since the last checkpoint, or try at one
        self.saves = self._interval > 0
        self.known_names: dict[str, tuple[str, str]] = {}

    @classmethod
    def brought_up(
        cls,
        session: Current,
        definition: Loaded,
        interval: int,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Self:
        """From the last checkpoint if there is one, else by the constructor.

        Raises whatever the constructor or `__ray_restore__` raises."""
        checkpoint = session.arena.last_checkpoint() if interval else None
        if checkpoint is None:
            instance = definition.target(*args, **kwargs)
        else:
            kind, state = _unpickled(get(session, checkpoint, FOREVER_MS)[1], definition.name)
            instance = _restored(definition.target, state) if kind == _SAVED else state
        return cls(session, definition.name, instance, interval)

    def names(self, method: str) -> tuple[str, str]:
        """A method's full name, and what its results are called in errors."""
        full_name = f"{self.name}.{method}"
        names = self.known_names[method] = full_name, f"the result of {full_name}"
        return names

    def count_call(self) -> bool:
        """Of an actor that saves its state: True if a checkpoint is due after this call."""
        self._calls += 1
        return self._calls >= self._interval

    def state(self) -> Sealed:
        """The state after the calls so far, to be stored.  Raises what the user's code raises."""
        self._calls = 0  # what can't be saved now is tried again after as many calls
        save = getattr(self.instance, "__ray_save__", None)
        state = (_WHOLE, self.instance) if save is None else (_SAVED, save())
        data, nested = _pickled(state, self.name)
        return block_of(self._session, data), formats.RAW, nested

    def report(self, error: BaseException) -> None:
        """Why the state could not be saved, as an error of the job whose call runs."""
        data, _, _ = failed(error, f"{self.name}.__ray_save__")
        self._session.arena.journal(JOURNAL_ERROR, data)

    def store(self, state: Sealed, leaves: bool = False) -> None:
        """From now on no call up to here is run again. `leaves`: nor is any other, here."""
        # Where there is no room the last one stays, and the calls since.
        with contextlib.suppress(*NO_ROOM):
            save = functools.partial(self._session.arena.checkpoint, *state, leaves)
            with_room(self._session, save)


def _pickled(state: Any, name: str) -> tuple[bytes, list[ObjectID] | None]:
    """Not as values of the store are: the arrays of an actor's state must be writable when they come back."""
    try:
        return collect(cloudpickle.dumps, state, 5)
    except Exception as error:
        raise SerializationError("pickle", f"the state of {name}", reason=reason_of(error)) from error


def _unpickled(data: bytes | View, name: str) -> tuple[str, Any]:
    try:
        kind, state = pickle.loads(data)
    except Exception as error:
        raise SerializationError("unpickle", f"the state of {name}", reason=reason_of(error)) from error
    return kind, state


def _restored(actor_class: Any, state: Any) -> Any:
    instance = actor_class.__new__(actor_class)
    instance.__ray_restore__(state)
    return instance
