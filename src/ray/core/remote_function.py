"""`@ray.remote` on a function: the handle whose `.remote(...)` makes tasks."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn, Self

from ray._kernel import KernelError, ObjectID, TableFull
from ray.core import session_state
from ray.core.arguments import NO_ARGUMENTS, carry, encode
from ray.core.definition import FUNCTION, Definition
from ray.core.kernel_errors import translated
from ray.core.options import Demand, TaskOptions
from ray.core.resources import shape_of
from ray.core.session_state import Current
from ray.core.signature import Signature
from ray.core.store import with_entry
from ray.errors import ArgumentError, ArgumentTypeError


class _Bound(NamedTuple):
    """What a call needs that is the same for all calls in one session."""

    session: Current
    submit: Callable[..., Any]  # the session's
    function: ObjectID
    shape: int


@carry
class RemoteFunction:
    """A function that runs as a task: `f.remote(...)` returns the id of the result at once.

    It may be pickled anywhere (as an argument, in a closure, in a result): then it names the function
    in the session, and does not carry its code again."""

    _bound: _Bound | None

    def __init__(self, definition: Definition, signature: Signature, options: TaskOptions) -> None:
        if definition.target is not None:
            functools.update_wrapper(self, definition.target, updated=())
        self._definition = definition
        self._signature = signature
        self._options = options
        self._low = signature.low
        self._high = signature.high
        self._num_returns = options.num_return_vals
        self._max_retries = options.max_retries
        self._bound = None

    @classmethod
    def of(cls, function: Callable[..., Any], keywords: Mapping[str, Any]) -> Self:
        """Raises ArgumentTypeError or ArgumentError for options that a function does not take."""
        definition = Definition(FUNCTION, function)
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise ArgumentTypeError(
                f"{definition.name} is an async function; a task is an ordinary function. "
                "Define it with `def`, and call asyncio.run(...) inside."
            )
        options = TaskOptions.checked(keywords, definition.name)
        definition.max_calls = options.max_calls
        return cls(definition, Signature.of(function), options)

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Starts a task and returns its ids: one, a list for num_return_vals above 1, None for 0.

        Does not wait for the task.  Ids among the arguments are replaced by their values before it runs.
        Raises ArgumentTypeError if the arguments do not fit the function, RayConnectionError before
        ray.init, InfeasibleResourcesError if this node can never run it."""
        bound = self._bound
        if bound is None or bound[0] is not session_state.current:
            bound = self._bind()
        session, submit, function, shape = bound
        if kwargs or not self._low <= len(args) <= self._high:
            self._signature.check(args, kwargs, self._definition.name)
        returns, retries = self._num_returns, self._max_retries
        try:
            payload, deps, nested = encode(session, args, kwargs) if args or kwargs else NO_ARGUMENTS
            try:
                return submit(function, payload, deps, nested, returns, shape, retries)
            except TableFull:
                again = functools.partial(submit, function, payload, deps, nested, returns, shape, retries)
                return with_entry(session, again)
        except KernelError as error:
            raise translated(error, f"{self._definition.name}.remote", (*args, *kwargs.values())) from None

    def options(self, **keywords: Any) -> "RemoteFunction":
        """The same function with other options: `f.options(num_cpus=2).remote(...)`."""
        options = self._options.changed(keywords, self._definition.name)
        definition = self._definition
        if options.max_calls != definition.max_calls:
            if definition.target is None:
                raise ArgumentTypeError(
                    f"max_calls of {definition.name} can be changed only where the function was defined."
                )
            definition = Definition(FUNCTION, definition.target, definition.name, options.max_calls)
        return RemoteFunction(definition, self._signature, options)

    @property
    def demand(self) -> Demand:
        """What each of its tasks holds while it runs."""
        return self._options.demand

    def transformed(
        self, session: Current, transform: Callable[[Callable[..., Any]], Callable[..., Any]]
    ) -> "RemoteFunction":
        """A remote function that runs what `transform` makes of this one's code, with the same options.

        Raises ArgumentError if it has not exactly one result."""
        definition = self._definition
        if self._num_returns != 1:
            raise ArgumentError(
                f"{definition.name} has num_return_vals={self._num_returns}; here it must return one value. "
                f"Use {definition.name}.options(num_return_vals=1), and return a tuple."
            )
        target = transform(definition.code(session))
        made = Definition(definition.kind, target, definition.name, definition.max_calls)
        return RemoteFunction(made, Signature.of(target), self._options)

    def _bind(self) -> _Bound:
        session = session_state.require(f"{self._definition.name}.remote")
        try:
            shape = shape_of(session, self._options.demand, self._definition.name)
            function = self._definition.exported(session)
            bound = _Bound(session, session.submitter.submit, function, shape)
        except KernelError as error:
            raise translated(error, f"{self._definition.name}.remote") from None
        self._bound = bound
        session.remembering.add(self)
        return bound

    def forget(self) -> None:
        self._bound = None

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        name = self._definition.name
        raise ArgumentTypeError(
            f"{name} is a remote function and cannot be called directly. "
            f"Call {name}.remote(...) to run it as a task."
        )

    def __reduce__(self) -> tuple[Callable[..., "RemoteFunction"], tuple[Any, ...]]:
        session = session_state.require(f"Pickling the remote function {self._definition.name}")
        return _rebuilt, (self._definition.reference(session), self._signature, self._options)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __repr__(self) -> str:
        return f"RemoteFunction({self._definition.name})"


def _rebuilt(reference: tuple[Any, ...], signature: Signature, options: TaskOptions) -> RemoteFunction:
    return RemoteFunction(Definition.referred(*reference), signature, options)
