"""Whether a concurrent history could have happened one step at a time.

The search is Wing and Gong's ("Testing and verifying concurrent objects", 1993) with Lowe's memory of
configurations ("Testing for linearizability", 2017): an operation may be the next step if no other one
had returned before it was called. A configuration is the set of steps taken and the state they led to.
"""

import dataclasses
import heapq
from collections.abc import Callable, Hashable, Iterable
from typing import Any

NEVER = float("inf")


@dataclasses.dataclass(frozen=True)
class Operation:
    """What one caller did. Times from one clock; `returned` is NEVER for what nobody saw the end of."""

    caller: str
    called: float
    returned: float
    name: str
    argument: Any
    result: Any

    def __str__(self) -> str:
        end = "..." if self.returned == NEVER else f"{self.returned:.0f}"
        return f"{self.called:.0f} to {end}  {self.caller}: {self.name}({self.argument!r}) = {self.result!r}"


# The states that a step may lead to from this one: none if the result does not fit.
Step = Callable[[Hashable, Operation], Iterable[Hashable]]


def is_linearizable(history: Iterable[Operation], start: Hashable, step: Step) -> bool:
    """Whether some order of the operations explains all results.

    One that never returned may have had its effect at any time, or none; its result is not looked at.
    """
    operations = sorted(history, key=lambda operation: operation.called)
    done = (1 << len(operations)) - 1
    for index, operation in enumerate(operations):
        if operation.returned == NEVER:
            done &= ~(1 << index)
    seen = {(0, start)}
    todo = [(0, start)]
    while todo:
        taken, state = todo.pop()
        if taken & done == done:
            return True
        for index in reversed(_possible(operations, taken)):
            for after in step(state, operations[index]):
                configuration = (taken | 1 << index, after)
                if configuration not in seen:
                    seen.add(configuration)
                    todo.append(configuration)
    return False


def _possible(operations: list[Operation], taken: int) -> list[int]:
    """Those that may come next: called before the first return of all that are left."""
    first_return = NEVER
    found = []
    index = ((taken + 1) & ~taken).bit_length() - 1  # the first that was not taken
    while index < len(operations) and operations[index].called <= first_return:
        if not taken >> index & 1:
            found.append(index)
            first_return = min(first_return, operations[index].returned)
        index += 1
    return found


def most_at_once(history: Iterable[Operation]) -> int:
    """How many operations were under way at the same time: one proves nothing."""
    ends: list[float] = []
    most = 0
    for operation in sorted(history, key=lambda operation: operation.called):
        while ends and ends[0] < operation.called:
            heapq.heappop(ends)
        heapq.heappush(ends, operation.returned)
        most = max(most, len(ends))
    return most


# --- the objects whose histories are checked -------------------------------------------------------


def write_once(state: Hashable, operation: Operation) -> list[Hashable]:
    """A promise: `seal` says whether it was the first; `get` and `ready` see nothing (None, False) before."""
    if operation.name == "seal":
        if operation.returned == NEVER:
            return [state if state is not None else operation.argument]
        if operation.result:
            return [operation.argument] if state is None else []
        return [state] if state is not None else []
    if operation.returned == NEVER:
        return [state]
    seen = state is not None if operation.name == "ready" else state
    return [state] if operation.result == seen else []


def register(state: Hashable, operation: Operation) -> list[Hashable]:
    """`read`, `write`, `swap` (returns what was there) and `add` (returns the sum)."""
    after: Any = {
        "read": lambda: state,
        "write": lambda: operation.argument,
        "swap": lambda: operation.argument,
        "add": lambda: state + operation.argument,
    }[operation.name]()
    result = {"read": state, "write": None, "swap": state, "add": after}[operation.name]
    return [after] if operation.returned == NEVER or operation.result == result else []
