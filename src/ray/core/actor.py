"""`@ray.remote` on a class: the class whose `.remote(...)` makes actors, and the handles to them."""

import functools
import inspect
import pickle
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Self

from ray._kernel import KernelError, ObjectID, TableFull
from ray.core import session_state
from ray.core.arguments import Encoded, carry, encode
from ray.core.definition import ACTOR_CLASS, Definition
from ray.core.kernel_errors import translated
from ray.core.kill import kill_process
from ray.core.options import ActorOptions, checked_method
from ray.core.resources import shape_of
from ray.core.session_state import Current
from ray.core.signature import Signature
from ray.core.store import with_entry
from ray.errors import ArgumentTypeError

RETURNS_ATTRIBUTE = "__ray_num_return_vals__"  # set on a function by @ray.method


class MethodTable:
    """What a handle knows of its class: each method's signature and number of return values."""

    __slots__ = ("class_name", "methods")

    def __init__(self, class_name: str, methods: dict[str, tuple[Signature, int]]) -> None:
        self.class_name = class_name
        self.methods = methods

    @classmethod
    def of(cls, actor_class: type, class_name: str) -> Self:
        methods = {}
        for name in dir(actor_class):
            if name.startswith("__") and name.endswith("__"):
                continue
            static = inspect.getattr_static(actor_class, name)
            method = getattr(actor_class, name)
            if not inspect.isroutine(method):
                continue
            if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
                raise ArgumentTypeError(
                    f"{class_name}.{name} is an async method; an actor's methods run one "
                    "after the other. Define it with `def`, and call asyncio.run(...) inside."
                )
            signature = Signature.of(method, skip_first=not isinstance(static, staticmethod | classmethod))
            methods[name] = signature, getattr(method, RETURNS_ATTRIBUTE, 1)
        return cls(class_name, methods)

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), (self.class_name, self.methods)


class ActorClass:
    """A class whose instances live in processes of their own: `Counter.remote(...)` makes one.

    It may be pickled anywhere; then it names the class in the session."""

    def __init__(
        self, definition: Definition, constructor: Signature, table: MethodTable, options: ActorOptions
    ) -> None:
        target = definition.target
        if target is not None:
            self.__name__ = target.__name__
            self.__qualname__ = target.__qualname__
            self.__module__ = target.__module__
            self.__doc__ = target.__doc__
        self._definition = definition
        self._constructor = constructor
        self._methods = table
        self._options = options

    @classmethod
    def of(cls, actor_class: type, keywords: Mapping[str, Any]) -> Self:
        """Raises ArgumentTypeError or ArgumentError for options that a class does not take."""
        definition = Definition(ACTOR_CLASS, actor_class)
        options = ActorOptions.checked(keywords, definition.name)
        constructor = Signature.of(actor_class)
        table = MethodTable.of(actor_class, definition.name)
        definition.methods = tuple(table.methods)
        return cls(definition, constructor, table, options)

    def remote(self, *args: Any, **kwargs: Any) -> "ActorHandle":
        """Makes an actor and returns its handle; does not wait for the constructor.

        The actor ends when its last handle is gone, after the calls made by then.  Raises
        ArgumentTypeError if the arguments do not fit __init__, RayConnectionError before ray.init,
        InfeasibleResourcesError if this node can never hold it."""
        name = self._definition.name
        session = session_state.require(f"{name}.remote")
        self._constructor.check(args, kwargs, name)
        options = self._options
        try:
            shape = shape_of(session, options.demand, name)
            actor_class = self._definition.exported(session)
            # The worker needs the interval, too: it counts the calls.
            payload, deps, nested = encode(session, (options.checkpoint_interval, *args), kwargs)
            call = actor_class, payload, deps, nested, shape, options.checkpoint_interval
            actor = with_entry(session, functools.partial(session.submitter.create_actor, *call))
        except KernelError as error:
            raise translated(error, f"{name}.remote", (*args, *kwargs.values())) from None
        return ActorHandle(actor, self._methods)

    def options(self, **keywords: Any) -> "ActorClass":
        """The same class with other options: `Counter.options(num_gpus=1).remote()`."""
        options = self._options.changed(keywords, self._definition.name)
        return ActorClass(self._definition, self._constructor, self._methods, options)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        name = self._definition.name
        raise ArgumentTypeError(
            f"{name} is an actor class and cannot be instantiated directly. "
            f"Call {name}.remote(...) to make an actor."
        )

    def __mro_entries__(self, bases: tuple[Any, ...]) -> NoReturn:
        raise ArgumentTypeError(
            f"{self._definition.name} is an actor class and cannot be inherited from. "
            "Inherit from the plain class, and put @ray.remote on what inherits."
        )

    def __reduce__(self) -> tuple[Callable[..., "ActorClass"], tuple[Any, ...]]:
        session = session_state.require(f"Pickling the actor class {self._definition.name}")
        return _rebuilt_class, (
            self._definition.reference(session),
            self._constructor,
            self._methods,
            self._options,
        )

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __repr__(self) -> str:
        return f"ActorClass({self._definition.name})"


def _rebuilt_class(
    reference: tuple[Any, ...], constructor: Signature, table: MethodTable, options: ActorOptions
) -> ActorClass:
    return ActorClass(Definition.referred(*reference), constructor, table, options)


@carry
class ActorHandle:
    """Refers to one actor: `handle.method.remote(...)` queues a call and returns its ids.

    Calls of one caller run in order.  A handle may be pickled anywhere; each copy keeps the actor alive."""

    _ray_actor: ObjectID
    _ray_methods: MethodTable

    def __init__(self, actor: ObjectID, table: MethodTable) -> None:
        self._ray_actor = actor
        self._ray_methods = table

    def __getattr__(self, name: str) -> "ActorMethod":
        table: MethodTable = self.__dict__["_ray_methods"]
        method = table.methods.get(name)
        if method is None:
            known = ", ".join(sorted(each for each in table.methods if not each.startswith("_"))) or "none"
            raise AttributeError(
                f"The actor {table.class_name} has no method {name!r}; its methods are: {known}. "
                "An attribute of the instance is read through a method that returns it."
            )
        # Kept for the next call.  It refers to the actor, not to this handle: a cycle would let the actor
        # live until the garbage collector comes by.
        number = list(table.methods).index(name)
        full_name = f"{table.class_name}.{name}"
        made = self.__dict__[name] = ActorMethod(self._ray_actor, full_name, name, number, *method)
        return made

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._ray_methods.methods})

    def __reduce__(self) -> tuple[type[Self], tuple[ObjectID, MethodTable]]:
        return type(self), (self._ray_actor, self._ray_methods)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and self._ray_actor == other._ray_actor

    def __hash__(self) -> int:
        return hash(self._ray_actor)

    def __repr__(self) -> str:
        return f"Actor({self._ray_methods.class_name}, {self._ray_actor.hex()})"


class ActorMethod:
    """One method of one actor."""

    __slots__ = (
        "_actor",
        "_high",
        "_low",
        "_name",
        "_no_arguments",
        "_num_returns",
        "_number",
        "_prefix",
        "_signature",
    )

    def __init__(
        self, actor: ObjectID, name: str, method: str, number: int, signature: Signature, num_returns: int
    ) -> None:
        self._actor = actor
        self._name = name
        self._number = number  # among the methods of the class: what the timeline knows it by
        self._prefix = (method,)
        self._signature = signature
        self._low = signature.low
        self._high = signature.high
        self._num_returns = num_returns
        self._no_arguments: Encoded = pickle.dumps(self._prefix, 5), None, None

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Queues a call and returns its ids: one, a list for num_return_vals above 1, None for 0.

        Does not wait for it.  Ids among the arguments are replaced by their values before it runs.
        Raises ArgumentTypeError if the arguments do not fit the method."""
        session = session_state.current
        if session is None:
            session = session_state.require(f"{self._name}.remote")
        if kwargs or not self._low <= len(args) <= self._high:
            self._signature.check(args, kwargs, self._name)
        try:
            if args or kwargs:
                payload, deps, nested = encode(session, self._prefix + args, kwargs)
            else:
                payload, deps, nested = self._no_arguments
            call = self._actor, payload, deps, nested, self._num_returns, self._number
            try:
                return session.submitter.call(*call)
            except TableFull:
                return with_entry(session, functools.partial(session.submitter.call, *call))
        except KernelError as error:
            raise translated(error, f"{self._name}.remote", (self._actor, *args, *kwargs.values())) from None

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise ArgumentTypeError(
            f"{self._name} is a method of an actor and cannot be called directly. "
            f"Call {self._name}.remote(...)."
        )

    def __repr__(self) -> str:
        return f"ActorMethod({self._name})"


def method(*args: Any, **keywords: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates a method of an actor class: `@ray.method(num_return_vals=2)`.

    Raises ArgumentTypeError or ArgumentError for other options."""
    if args:
        raise ArgumentTypeError("@ray.method takes keywords only: @ray.method(num_return_vals=...).")
    num_returns = checked_method(keywords, "@ray.method")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if not inspect.isroutine(function):
            raise ArgumentTypeError(f"@ray.method stands over a method, not over {function!r}.")
        inner = function.__func__ if isinstance(function, staticmethod | classmethod) else function
        setattr(inner, RETURNS_ATTRIBUTE, num_returns)
        return function

    return decorate


def kill_actor(session: Current, actor: ActorHandle) -> None:
    """Ends an actor and its process; no restart follows."""
    pid = session.submitter.kill_actor(actor._ray_actor)
    if pid:
        kill_process(session.arena, pid)
