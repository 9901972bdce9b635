"""What `@ray.remote(...)` and `.options(...)` accept, checked where the user wrote it."""

import dataclasses
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

from ray._kernel import UNIT
from ray.errors import ArgumentError, ArgumentTypeError

DEFAULT_CPUS = 1.0
DEFAULT_MAX_RETRIES = 3  # a task whose worker died is run again this many times
MAX_RETURNS = 65_536  # return values of one call; the kernel keeps a record for each

RESERVED_NAMES = {"CPU": "num_cpus", "GPU": "num_gpus", "CUSTOM_RESOURCE": "num_custom_resource"}
Amount = TypeVar("Amount")

# spellings that mean the same: the text's name first
ALIASES = {"num_returns": "num_return_vals"}


@dataclasses.dataclass(frozen=True, slots=True)
class Demand:
    """What a task holds while it runs, in the kernel's whole units of 1/10,000."""

    cpu: int
    gpu: int
    custom: int
    custom_name: str = ""  # what the cluster calls it; "" for whatever it is


@dataclasses.dataclass(frozen=True, slots=True)
class TaskOptions:
    """How each call of a remote function runs."""

    num_return_vals: int = 1
    num_cpus: float = DEFAULT_CPUS
    num_gpus: float = 0.0
    num_custom_resource: float = 0.0
    max_calls: int = 0  # 0: no limit
    max_retries: int = DEFAULT_MAX_RETRIES
    resources: tuple[str, float] | None = None  # the custom resource by its name

    @classmethod
    def checked(cls, keywords: Mapping[str, Any], what: str) -> Self:
        """Raises ArgumentTypeError or ArgumentError, naming `what` (the decorated thing) and the keyword."""
        return cls().changed(keywords, what)

    def changed(self, keywords: Mapping[str, Any], what: str) -> Self:
        values = _known(
            keywords, [field.name for field in dataclasses.fields(self)], what, "a remote function"
        )
        checks: dict[str, Callable[[object], object]] = {
            "num_return_vals": lambda value: _whole(value, "num_return_vals", what, 0, MAX_RETURNS),
            "num_cpus": lambda value: _quantity(value, "num_cpus", what),
            "num_gpus": lambda value: _gpus(value, what),
            "num_custom_resource": lambda value: _quantity(value, "num_custom_resource", what),
            "resources": lambda value: _named(value, what),
            "max_calls": lambda value: _whole(value, "max_calls", what, 0, 2**31 - 1),
            "max_retries": lambda value: _whole(value, "max_retries", what, 0, 2**31 - 1),
        }
        checked: dict[str, Any] = {name: checks[name](value) for name, value in values.items()}
        if "resources" in checked and "num_custom_resource" in checked:
            raise ArgumentError(
                f"num_custom_resource and resources of {what} are two ways to say the same: give only one."
            )
        return dataclasses.replace(self, **checked)

    @property
    def demand(self) -> Demand:
        return _demand(self.num_cpus, self.num_gpus, self.num_custom_resource, self.resources)


@dataclasses.dataclass(frozen=True, slots=True)
class ActorOptions:
    """How an actor runs: its GPUs and custom resource are held for life, its CPUs while a method runs."""

    num_cpus: float = DEFAULT_CPUS
    num_gpus: float = 0.0
    num_custom_resource: float = 0.0
    checkpoint_interval: int = 0  # 0: the actor dies with its process
    resources: tuple[str, float] | None = None  # the custom resource by its name

    @classmethod
    def checked(cls, keywords: Mapping[str, Any], what: str) -> Self:
        """Raises ArgumentTypeError or ArgumentError, naming `what` (the decorated thing) and the keyword."""
        return cls().changed(keywords, what)

    def changed(self, keywords: Mapping[str, Any], what: str) -> Self:
        if "num_return_vals" in keywords or "num_returns" in keywords:
            raise ArgumentTypeError(
                f"{what} is an actor class: an actor itself returns nothing. "
                "Put @ray.method(num_return_vals=...) on the method that returns several values."
            )
        values = _known(keywords, [field.name for field in dataclasses.fields(self)], what, "an actor class")
        checks: dict[str, Callable[[object], object]] = {
            "num_cpus": lambda value: _quantity(value, "num_cpus", what),
            "num_gpus": lambda value: _gpus(value, what),
            "num_custom_resource": lambda value: _quantity(value, "num_custom_resource", what),
            "resources": lambda value: _named(value, what),
            "checkpoint_interval": lambda value: _interval(value, what),
        }
        checked: dict[str, Any] = {name: checks[name](value) for name, value in values.items()}
        if "resources" in checked and "num_custom_resource" in checked:
            raise ArgumentError(
                f"num_custom_resource and resources of {what} are two ways to say the same: give only one."
            )
        return dataclasses.replace(self, **checked)

    @property
    def demand(self) -> Demand:
        return _demand(self.num_cpus, self.num_gpus, self.num_custom_resource, self.resources)


OPTION_NAMES = frozenset(
    [field.name for kind in (TaskOptions, ActorOptions) for field in dataclasses.fields(kind)] + list(ALIASES)
)


def checked_method(keywords: Mapping[str, Any], what: str) -> int:
    """The number of return values that `@ray.method(...)` asks for."""
    values = _known(keywords, ["num_return_vals"], what, "an actor's method")
    if not values:
        raise ArgumentTypeError(
            "@ray.method needs num_return_vals=..., the number of ids that a call of the method returns."
        )
    return _whole(values["num_return_vals"], "num_return_vals", what, 0, MAX_RETURNS)


def _known(keywords: Mapping[str, Any], names: list[str], what: str, kind: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for given, value in keywords.items():
        name = ALIASES.get(given, given)
        if name not in names:
            raise ArgumentTypeError(
                f"{given!r} is not an option of {kind} ({what}); the options are {', '.join(sorted(names))}."
            )
        if name in values:
            raise ArgumentTypeError(f"{name!r} was given twice for {what}, as {name!r} and as its alias.")
        values[name] = value
    return values


def _whole(value: object, name: str, what: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ArgumentTypeError(f"{name} of {what} must be a whole number, not {value!r}.")
    number = int(value)
    if not low <= number <= high:
        raise ArgumentError(f"{name} of {what} must be from {low} to {high}, not {number}.")
    return number


def _quantity(value: object, name: str, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ArgumentTypeError(f"{name} of {what} must be a number, not {value!r}.")
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ArgumentError(f"{name} of {what} must be zero or more, not {value!r}.")
    if number and number * UNIT < 1:
        raise ArgumentError(
            f"{name} of {what} is {value!r}; the smallest share that can be asked for is {1 / UNIT}."
        )
    return number


def _gpus(value: object, what: str) -> float:
    number = _quantity(value, "num_gpus", what)
    if number > 1 and not number.is_integer():
        raise ArgumentError(
            f"num_gpus of {what} is {value!r}: a share of a GPU is at most 1; above, ask for whole ones."
        )
    return number


def _interval(value: object, what: str) -> int:
    if value is None:
        return 0
    return _whole(value, "checkpoint_interval", what, 1, 2**31 - 1)


def _named(value: object, what: str) -> tuple[str, float] | None:
    """The one resource of the cluster's own that {name: amount} asks for."""
    if value is None:
        return None
    try:
        return one_named(value, lambda amount, name: _quantity(amount, name, what))
    except ArgumentError as error:
        raise type(error)(f"resources of {what}: {error}") from None


def one_named(value: object, amount_of: Callable[[object, str], Amount]) -> tuple[str, Amount] | None:
    """Name and amount in {name: amount}; None for an empty mapping.

    Raises ArgumentTypeError, and ArgumentError for CPUs and GPUs, which have arguments of their own, and for
    more than one name: a cluster counts one resource of its own.
    """
    if not isinstance(value, Mapping):
        raise ArgumentTypeError(f'it must be a mapping like {{"licence": 1}}, not {value!r}.')
    for name in value:
        if not isinstance(name, str) or not name.strip():
            raise ArgumentTypeError(f"the name of a resource must be text, not {name!r}.")
        if name.upper() in RESERVED_NAMES:
            raise ArgumentError(f"{name!r} is given as {RESERVED_NAMES[name.upper()]}.")
    if len(value) > 1:
        raise ArgumentError(
            f"a cluster counts one resource of its own besides CPUs and GPUs, and these are {len(value)}: "
            f"{', '.join(value)}."
        )
    return next(((name, amount_of(amount, name)) for name, amount in value.items()), None)


def _demand(cpus: float, gpus: float, custom: float, resources: tuple[str, float] | None) -> Demand:
    if resources is not None:
        name, custom = resources
        return Demand(round(cpus * UNIT), round(gpus * UNIT), round(custom * UNIT), name)
    return Demand(round(cpus * UNIT), round(gpus * UNIT), round(custom * UNIT))
