"""PYTHON_MODE: every call runs at once in the caller's process, on a private arena.

The same program runs as in the other modes: arguments and results go through the store, ids are real,
and an error is stored and raised by `get`.  Nothing ever waits: what has an id has a value.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ray._kernel import JOURNAL_ERROR, UNIT, Block, KernelError, ObjectID, StaleHandle
from ray.core.failures import Failed, failed
from ray.core.invocation import ArgumentFailed, Definitions, arguments, results
from ray.core.options import Demand
from ray.core.session_state import Current, Returns
from ray.core.store import with_room
from ray.errors import ActorKilledError

FIRST_SWEEP = 16  # actors, before those that have no handle any more are looked for


class _Actor:
    """`failure` is what every call returns; None while the actor is well."""

    def __init__(self, object_id: bytes, name: str, gpu_units: int) -> None:
        self.object_id = object_id
        self.name = name
        self.gpu_units = gpu_units
        self.instance: Any = None
        self.failure: Failed | None = None

    def end(self, failure: Failed) -> None:
        self.instance = None
        self.failure = failure


class LocalMode:
    """Stands where the arena stands in other modes: see `session_state.Submitter`."""

    def __init__(self, session: Current) -> None:
        self._session = session
        self._arena = session.arena
        self._definitions = Definitions(session)
        self._demands: list[Demand] = []
        self._actors: dict[int, _Actor] = {}
        self._sweep_at = FIRST_SWEEP
        self._gpu_units = 0  # of the call that runs

    def shape(self, cpu: int, gpu: int, custom: int, /) -> int:
        demand = Demand(cpu, gpu, custom)
        if demand not in self._demands:
            self._demands.append(demand)
        return self._demands.index(demand)

    def gpu_ids(self) -> list[int]:
        return list(range(-(-self._gpu_units // UNIT)))

    def submit(
        self,
        function: ObjectID,
        payload: bytes | Block,
        deps: list[ObjectID] | None,
        nested: list[ObjectID] | None,
        num_returns: int,
        shape: int,
        max_retries: int,
        /,
    ) -> Returns:
        self._refuse_stale(deps)
        loaded = self._definitions.load(function.key, function)

        def run() -> Any:
            args, kwargs = arguments(self._session, _bytes(payload), deps, loaded.name)
            return loaded.target(*args, **kwargs)

        with self._gpus(self._demands[shape].gpu):
            return self._returns(run, num_returns, lambda: loaded.name)

    def create_actor(
        self,
        cls: ObjectID,
        payload: bytes | Block,
        deps: list[ObjectID] | None,
        nested: list[ObjectID] | None,
        shape: int,
        checkpoint_interval: int,
        /,
    ) -> ObjectID:
        self._refuse_stale(deps)
        loaded = self._definitions.load(cls.key, cls)
        oid = self._arena.reserve()
        actor = _Actor(oid.binary(), loaded.name, self._demands[shape].gpu)
        try:
            with self._gpus(actor.gpu_units):
                (_, *args), kwargs = arguments(self._session, _bytes(payload), deps, loaded.name)
                actor.instance = loaded.target(*args, **kwargs)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            actor.end(self._failure(error, loaded.name))
        self._sweep()
        self._actors[oid.key] = actor
        return oid

    def call(
        self,
        actor: ObjectID,
        payload: bytes | Block,
        deps: list[ObjectID] | None,
        nested: list[ObjectID] | None,
        num_returns: int,
        method: int,
        /,
    ) -> Returns:
        callee = self._callee(actor)
        self._refuse_stale(deps)
        if callee.failure is not None:
            return self._store([callee.failure] * num_returns)
        name = callee.name

        def run() -> Any:
            nonlocal name
            (method, *args), kwargs = arguments(self._session, _bytes(payload), deps, name)
            name = f"{name}.{method}"
            return getattr(callee.instance, method)(*args, **kwargs)

        with self._gpus(callee.gpu_units):
            return self._returns(run, num_returns, lambda: name)

    def kill_actor(self, actor: ObjectID, /) -> int:
        callee = self._callee(actor)
        callee.end(failed(ActorKilledError(callee.name), callee.name))
        return 0

    def _refuse_stale(self, deps: list[ObjectID] | None) -> None:
        """At the call, as an arena does; raises StaleHandle."""
        for each in deps or ():
            self._arena.is_ready(each)

    def _callee(self, actor: ObjectID) -> _Actor:
        callee = self._actors.get(actor.key)
        if callee is None or callee.object_id != actor.binary():
            raise StaleHandle("this handle belongs to a session that has ended")
        return callee

    def _returns(self, run: Callable[[], Any], num_returns: int, name: Callable[[], str]) -> Returns:
        try:
            value = run()
            sealed = results(self._session, value, num_returns, name(), f"the result of {name()}")
        except KeyboardInterrupt:  # the user's, at this very terminal
            raise
        except BaseException as error:
            sealed = [self._failure(error, name())] * num_returns
        return self._store(sealed)

    def _failure(self, error: BaseException, name: str) -> Failed:
        if isinstance(error, ArgumentFailed):
            return error.data, error.fmt, [error.argument]
        failure = failed(error, name)
        self._arena.journal(JOURNAL_ERROR, failure[0])
        return failure

    def _store(self, sealed: list[Any]) -> Returns:
        oids = [with_room(self._session, functools.partial(self._arena.put, *each)) for each in sealed]
        return None if not oids else oids[0] if len(oids) == 1 else oids

    @contextmanager
    def _gpus(self, units: int) -> Iterator[None]:
        outer, self._gpu_units = self._gpu_units, units
        try:
            yield
        finally:
            self._gpu_units = outer

    def _sweep(self) -> None:
        """Lets go the instances of actors that have no handle any more."""
        if len(self._actors) < self._sweep_at:
            return
        for key, actor in list(self._actors.items()):
            try:
                self._arena.is_ready(ObjectID(actor.object_id))
            except KernelError:
                del self._actors[key]
        self._sweep_at = max(FIRST_SWEEP, 2 * len(self._actors))


def _bytes(payload: bytes | Block) -> bytes:
    assert isinstance(payload, bytes)
    return payload
