"""Time-outs as the user writes them, in whole milliseconds for the kernel."""

import datetime
import operator

from ray.errors import ArgumentError, ArgumentTypeError

FOREVER_MS = -1
MAX_MS = 2**53  # larger numbers are a mistake of units, and would overflow the kernel's clock

_ONE_MS = datetime.timedelta(milliseconds=1)


def milliseconds(timeout: object, name: str = "timeout") -> int:
    """A time-out in whole milliseconds; None is for ever; a timedelta is rounded up.

    Raises ArgumentTypeError for floats (are they seconds?) and bools, ArgumentError below zero."""
    if timeout is None:
        return FOREVER_MS
    if isinstance(timeout, datetime.timedelta):
        number = -(-timeout // _ONE_MS)
    elif isinstance(timeout, bool):
        raise ArgumentTypeError(
            f"{name} must be a whole number of milliseconds, a datetime.timedelta or None, not {timeout}."
        )
    else:
        try:
            number = operator.index(timeout)  # type: ignore[arg-type]
        except TypeError:
            raise ArgumentTypeError(
                f"{name} must be a whole number of milliseconds, a datetime.timedelta or None, "
                f"not {timeout!r}. For seconds, write {name}=datetime.timedelta(seconds=...)."
            ) from None
    if not 0 <= number <= MAX_MS:
        raise ArgumentError(
            f"{name} must be from 0 to {MAX_MS} milliseconds, not {number}; None waits for ever."
        )
    return number
