"""Does a call fit the function?  Asked in the caller, where the mistake is, before a task is made."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Self

from ray.errors import ArgumentTypeError

UNBOUNDED = 2**31


class Signature:
    """The shape of a function's parameters, without their defaults; small, and picklable anywhere.

    `low` and `high` bound the number of arguments of a purely positional call that certainly fits:
    the caller's fast path compares two numbers and goes on."""

    __slots__ = (
        "_extra_keywords",
        "_extra_positional",
        "_keyword_only",
        "_keyword_required",
        "_names",
        "_positional_only",
        "_required",
        "high",
        "low",
    )  # fmt: skip

    def __init__(
        self,
        positional_only: int,
        names: tuple[str, ...],
        required: int,
        keyword_only: tuple[str, ...],
        keyword_required: tuple[str, ...],
        extra_positional: bool,
        extra_keywords: bool,
    ) -> None:
        self._positional_only = positional_only  # how many of `names` can't be given by name
        self._names = names
        self._required = required  # how many of `names`, from the left, have no default
        self._keyword_only = keyword_only
        self._keyword_required = keyword_required
        self._extra_positional = extra_positional
        self._extra_keywords = extra_keywords
        self.low = UNBOUNDED + 1 if keyword_required else required
        self.high = UNBOUNDED if extra_positional else len(names)

    @classmethod
    def of(cls, function: Callable[..., Any], skip_first: bool = False) -> Self:
        """skip_first: the first positional parameter is filled by Python (`self`)."""
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (ValueError, TypeError):  # some functions written in C don't tell
            return cls(0, (), 0, (), (), True, True)
        positional_only, names, required = 0, [], 0
        keyword_only, keyword_required = [], []
        extra_positional = extra_keywords = False
        for parameter in parameters:
            needed = parameter.default is parameter.empty
            if parameter.kind is parameter.VAR_POSITIONAL:
                extra_positional = True
            elif parameter.kind is parameter.VAR_KEYWORD:
                extra_keywords = True
            elif parameter.kind is parameter.KEYWORD_ONLY:
                keyword_only.append(parameter.name)
                if needed:
                    keyword_required.append(parameter.name)
            elif skip_first:
                skip_first = False
            else:
                names.append(parameter.name)
                positional_only += parameter.kind is parameter.POSITIONAL_ONLY
                required += needed
        return cls(
            positional_only,
            tuple(names),
            required,
            tuple(keyword_only),
            tuple(keyword_required),
            extra_positional,
            extra_keywords,
        )

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        return type(self), (
            self._positional_only,
            self._names,
            self._required,
            self._keyword_only,
            self._keyword_required,
            self._extra_positional,
            self._extra_keywords,
        )

    def check(self, args: tuple[object, ...], kwargs: Mapping[str, object], name: str) -> None:
        """Raises ArgumentTypeError in the words Python itself uses, naming the function."""
        names = self._names
        if len(args) > len(names) and not self._extra_positional:
            raise ArgumentTypeError(
                f"{name}() takes {_count(self._required, len(names))} but {len(args)} "
                f"{'was' if len(args) == 1 else 'were'} given"
            )
        by_name = names[self._positional_only :]
        for keyword in kwargs:
            if keyword in by_name:
                if names.index(keyword) < len(args):
                    raise ArgumentTypeError(f"{name}() got multiple values for argument {keyword!r}")
            elif keyword not in self._keyword_only and not self._extra_keywords:
                raise ArgumentTypeError(f"{name}() got an unexpected keyword argument {keyword!r}")
        missing = [
            parameter
            for index, parameter in enumerate(names[: self._required])
            if index >= len(args) and (index < self._positional_only or parameter not in kwargs)
        ]
        if missing:
            raise ArgumentTypeError(f"{name}() is missing {_listed(missing)}")
        missing = [parameter for parameter in self._keyword_required if parameter not in kwargs]
        if missing:
            raise ArgumentTypeError(f"{name}() is missing keyword-only {_listed(missing)}")


def _count(low: int, high: int) -> str:
    if low == high:
        return f"{high} positional argument{'' if high == 1 else 's'}"
    return f"from {low} to {high} positional arguments"


def _listed(names: list[str]) -> str:
    quoted = ", ".join(repr(name) for name in names)
    return f"required argument{'' if len(names) == 1 else 's'}: {quoted}"
