"""What a worker does with one piece of work: arguments, the user's code, results or failure."""

from collections.abc import Callable
from typing import Any

from ray._kernel import ACTOR_CALL, TASK, ArenaClosed, ObjectID
from ray.core import leaving
from ray.core.arguments import decode
from ray.core.failures import Failed, failed
from ray.core.invocation import ArgumentFailed, Definitions, Sealed, arguments, results
from ray.core.names import name_behind
from ray.core.session_state import Current
from ray.core.store import NO_ROOM, sealable, with_room
from ray.worker.actor_host import ActorHost
from ray.worker.blas import BlasThreads
from ray.worker.environment import flush
from ray.worker.gpu import VisibleGpus
from ray.worker.job_paths import JobPaths
from ray.worker.missing import explain
from ray.worker.output import Output

Work = tuple[int, int, bytes, list[ObjectID] | None, int, int]
# The kernel seals the result while it looks for the next task; nothing: it is sealed already.
Result = tuple[bytes | None, int]
_NOTHING: Result = None, 0


class Executor:
    """Runs what the kernel hands to this worker, in its main thread."""

    def __init__(self, session: Current, first_job: int, logs: str) -> None:
        """`first_job` is that of the driver that started the session, `logs` where each job's output goes by
        itself; 0 and "": there is none."""
        self.session = session
        self._arena = session.arena
        self._definitions = Definitions(session)
        self._known = self._definitions.known
        self._calls: dict[int, int] = {}  # of the functions with max_calls
        self._host: ActorHost | None = None
        self._blas = BlasThreads(session.arena)
        self._gpus = VisibleGpus(session.arena, session.stock)
        self._paths = JobPaths(session.arena, first_job)
        self._output = Output(logs)
        self._in_cluster = session.in_cluster
        self._setting = -1  # the kernel's number for job and resources of the last task
        self._name = ""  # of what runs, for failures
        self.interruptible = False  # the user's code runs
        self.ended = False  # this process has done its share

    def run(
        self,
        kind: int,
        key: int,
        payload: bytes,
        deps: list[ObjectID] | None,
        num_returns: int,
        setting: int,
    ) -> Result:
        """Never raises what the user's code raises.  Raises ArenaClosed when the session has ended."""
        if setting != self._setting or self._gpus.declared:  # which GPUs is not in the number
            self._settle(setting)
        if kind == TASK:
            result = self._run_task(key, payload, deps, num_returns)
            if self.ended:
                self._arena.complete()
            return result
        if kind == ACTOR_CALL:
            assert self._host is not None
            return self._run_call(self._host, payload, deps, num_returns)
        return self._create_actor(key, payload, deps)

    def _settle(self, setting: int) -> None:
        """What differs from the last task's: resources, and whose driver's modules are imported."""
        self._setting = setting
        self._blas.fit()
        self._gpus.show()
        if self._host is None:
            self._paths.enter(self._arena.job)
            self._output.enter(self._arena.job)
        else:
            self._paths.add(self._arena.job)

    def help(self, work: Work) -> None:
        """Runs a task on top of the one that waits for it: there may be no more workers.

        BLAS threads and GPUs stay as they are: what helps has one task's CPUs, and no GPU."""
        interruptible, self.interruptible = self.interruptible, False
        _, key, payload, deps, num_returns, _ = work
        name, output = self._name, self._output.job
        self._paths.add(self._arena.job)
        self._output.enter(self._arena.job)
        data, fmt = self._run_task(key, payload, deps, num_returns)
        if data is not None:
            self.finish([(data, fmt, None)])
        self._arena.complete()
        self._output.enter(output)
        self._name, self.interruptible = name, interruptible

    def _run_task(self, key: int, payload: bytes, deps: list[ObjectID] | None, num_returns: int) -> Result:
        # Most of what a small task costs is here and in `_commit`, so they call few other functions.
        self._name = ""
        try:
            self.interruptible = True
            name, max_calls, target, subject = self._known.get(key) or self._load(key)
            self._name = name
            if max_calls and self._host is None:
                calls = self._calls[key] = self._calls.get(key, 0) + 1
                self.ended = self.ended or calls >= max_calls
            if deps or payload:
                args, kwargs = arguments(self.session, payload, deps, name) if deps else decode(payload, [])
                value = target(*args, **kwargs)
                del args, kwargs
            else:
                value = target()
            sealed = (
                sealable(self.session, value, subject)
                if num_returns == 1
                else results(self.session, value, num_returns, name, subject)
            )
            self.interruptible = False
        except BaseException as error:
            self.interruptible = False
            self._fail(error)
            return _NOTHING
        return self._commit(sealed, at_once=self.ended)

    def _run_call(
        self, host: ActorHost, payload: bytes, deps: list[ObjectID] | None, num_returns: int
    ) -> Result:
        self._name = host.name
        save = host.saves and host.count_call()
        result = _NOTHING
        try:
            self.interruptible = True
            args, kwargs = arguments(self.session, payload, deps, host.name) if deps else decode(payload, [])
            method = args[0]
            if method == leaving.METHOD:
                return self._leave(host)
            self._name, subject = host.known_names.get(method) or host.names(method)
            call = getattr(host.instance, method)
            value = call(*args[1:], **kwargs) if kwargs or len(args) > 1 else call()
            del args, kwargs, call
            sealed = (
                sealable(self.session, value, subject)
                if num_returns == 1
                else results(self.session, value, num_returns, self._name, subject)
            )
            self.interruptible = False
        except BaseException as error:
            self.interruptible = False
            self._fail(error)
        else:
            result = self._commit(sealed, at_once=save)
        if save:
            state = self._state(host)
            self._arena.complete()
            if state is not None:
                host.store(state)
        return result

    def _leave(self, host: ActorHost) -> Result:
        """It goes on at another node; if its state can't be saved, it stays for as long as this one."""
        state = self._state(host)
        if state is not None:
            host.store(state, leaves=True)
        return _NOTHING

    def _state(self, host: ActorHost) -> Sealed | None:
        """None: it can't be saved, which is reported, of the job that the call still belongs to."""
        try:
            self.interruptible = True
            state = host.state()
            self.interruptible = False
        except BaseException as error:
            self.interruptible = False
            if type(error) is ArenaClosed:
                raise
            host.report(error)
            return None
        return state

    def _create_actor(self, key: int, payload: bytes, deps: list[ObjectID] | None) -> Result:
        self._name = ""
        try:
            self.interruptible = True
            loaded = self._load(key)
            self._name = loaded.name
            (interval, *args), kwargs = arguments(self.session, payload, deps, loaded.name)
            self._host = ActorHost.brought_up(self.session, loaded, interval, args, kwargs)
            self.interruptible = False
        except BaseException as error:
            self.interruptible = False
            data, fmt, _ = self._failure(error)
            self._insist(lambda: self._arena.actor_failed(data, fmt))
        flush()
        return _NOTHING

    def _load(self, key: int) -> Any:
        definition = self._arena.function(key)
        self._name = name_behind(self._arena, definition.binary())
        return self._definitions.load(key, definition)

    def _commit(self, sealed: Sealed | list[Sealed], at_once: bool) -> Result:
        """One result, or the list of several.  at_once: not only when the next task is taken."""
        flush()
        if type(sealed) is tuple:
            data, fmt, nested = sealed
            if nested is None and type(data) is bytes and not at_once:
                return data, fmt
            sealed = [sealed]
        self.finish(sealed)  # type: ignore[arg-type]  # a list by now
        return _NOTHING

    def finish(self, sealed: list[Sealed]) -> None:
        """Seals the running task's results; waits for room, and fails the task if none comes."""
        try:
            with_room(self.session, lambda: self._arena.finish(sealed))
        except NO_ROOM as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        data, fmt, nested = self._failure(error)
        news = type(error) is not ArgumentFailed  # what failed first has been reported already
        flush()
        self._insist(lambda: self._arena.fail(data, fmt, nested, news))

    def _failure(self, error: BaseException) -> Failed:
        # By type: to ask the user's exception for its class, or any other attribute, may run his code.
        if type(error) is ArenaClosed:
            raise error
        if type(error) is ArgumentFailed:
            return error.data, error.fmt, [error.argument]
        if self._in_cluster:
            explain(error, self._arena, self._paths.of(self._arena.job))
        failure = failed(error, self._name, self._arena.attempt(), self.session.node_name)
        # The traceback holds the user's frames, and they hold arguments.
        BaseException.with_traceback(error, None)
        return failure

    def _insist(self, attempt: Callable[[], None]) -> None:
        """A failure must be stored: it is small, and someone may wait for it."""
        while True:
            try:
                return with_room(self.session, attempt)
            except NO_ROOM:
                continue
