"""What `@ray.remote(...)` and `.options(...)` accept, checked where the user wrote it."""

import dataclasses
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, Self

from ray._kernel import UNIT
from ray.errors import ArgumentError, ArgumentTypeError

DEFAULT_CPUS = 1.0
DEFAULT_MAX_RETRIES = 3  # a task whose worker died is run again this many times
MAX_RETURNS = 65_536  # return values of one call; the kernel keeps a record for each

# spellings that mean the same: the text's name first
ALIASES = {"num_returns": "num_return_vals"}


@dataclasses.dataclass(frozen=True, slots=True)
class Demand:
    """What a task holds while it runs, in the kernel's whole units of 1/10,000."""

    cpu: int
    gpu: int
    custom: int


@dataclasses.dataclass(frozen=True, slots=True)
class TaskOptions:
    """How each call of a remote function runs."""

    num_return_vals: int = 1
    num_cpus: float = DEFAULT_CPUS
    num_gpus: float = 0.0
    num_custom_resource: float = 0.0
    max_calls: int = 0  # 0: no limit
    max_retries: int = DEFAULT_MAX_RETRIES

    @classmethod
    def checked(cls, keywords: Mapping[str, Any], what: str) -> Self:
        """Raises ArgumentTypeError or ArgumentError, naming `what` (the decorated thing) and the keyword."""
        return cls().changed(keywords, what)

    def changed(self, keywords: Mapping[str, Any], what: str) -> Self:
        values = _known(
            keywords, [field.name for field in dataclasses.fields(self)], what, "a remote function"
        )
        checks: dict[str, Callable[[object], float]] = {
            "num_return_vals": lambda value: _whole(value, "num_return_vals", what, 0, MAX_RETURNS),
            "num_cpus": lambda value: _quantity(value, "num_cpus", what),
            "num_gpus": lambda value: _gpus(value, what),
            "num_custom_resource": lambda value: _quantity(value, "num_custom_resource", what),
            "max_calls": lambda value: _whole(value, "max_calls", what, 0, 2**31 - 1),
            "max_retries": lambda value: _whole(value, "max_retries", what, 0, 2**31 - 1),
        }
        checked: dict[str, Any] = {name: checks[name](value) for name, value in values.items()}
        return dataclasses.replace(self, **checked)

    @property
    def demand(self) -> Demand:
        return _demand(self.num_cpus, self.num_gpus, self.num_custom_resource)


@dataclasses.dataclass(frozen=True, slots=True)
class ActorOptions:
    """How an actor runs: its GPUs and custom resource are held for life, its CPUs while a method runs."""

    num_cpus: float = DEFAULT_CPUS
    num_gpus: float = 0.0
    num_custom_resource: float = 0.0
    checkpoint_interval: int = 0  # 0: the actor dies with its process

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
        checks: dict[str, Callable[[object], float]] = {
            "num_cpus": lambda value: _quantity(value, "num_cpus", what),
            "num_gpus": lambda value: _gpus(value, what),
            "num_custom_resource": lambda value: _quantity(value, "num_custom_resource", what),
            "checkpoint_interval": lambda value: _interval(value, what),
        }
        checked: dict[str, Any] = {name: checks[name](value) for name, value in values.items()}
        return dataclasses.replace(self, **checked)

    @property
    def demand(self) -> Demand:
        return _demand(self.num_cpus, self.num_gpus, self.num_custom_resource)


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


def _demand(cpus: float, gpus: float, custom: float) -> Demand:
    return Demand(round(cpus * UNIT), round(gpus * UNIT), round(custom * UNIT))
