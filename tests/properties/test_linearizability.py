"""The checker itself: what is linearizable, what is not, and that it agrees with trying every order."""

import itertools
import random

import pytest

from tests.properties.forms import examples, run_number
from tests.properties.linearizability import (
    NEVER,
    Operation,
    is_linearizable,
    most_at_once,
    register,
    write_once,
)


def history(text: str) -> list[Operation]:
    """One operation a line: called returned name argument result; `-` for None, `...` for never."""
    found = []
    for number, line in enumerate(filter(str.strip, text.splitlines())):
        called, returned, name, argument, result = line.split()
        end = NEVER if returned == "..." else float(returned)
        values = [None if each == "-" else int(each) for each in (argument, result)]
        found.append(Operation(f"caller {number}", float(called), end, name, *values))
    return found


GOOD = {
    "one after the other": """
        0 1 write 5 -
        2 3 read - 5
    """,
    "a read beside a write sees either": """
        0 9 write 5 -
        1 2 read - 0
        3 4 read - 5
    """,
    "a write that never returned may be seen": """
        0 ... write 5 -
        1 2 read - 5
    """,
    "or not": """
        0 ... write 5 -
        1 2 read - 0
    """,
    "sums": """
        0 5 add 1 2
        0 5 add 1 1
        0 5 add 1 3
    """,
}
BAD = {
    "a read of what was overwritten": """
        0 1 write 5 -
        2 3 read - 0
    """,
    "new, then old again": """
        0 9 write 5 -
        1 2 read - 5
        3 4 read - 0
    """,
    "a write that never returned is not undone": """
        0 ... write 5 -
        1 2 read - 5
        3 4 read - 0
    """,
    "an increment is lost": """
        0 5 add 1 1
        1 6 add 1 1
    """,
    "an increment before the one that returned first": """
        0 1 add 1 2
        2 3 add 1 1
    """,
    "two swaps see the same": """
        0 5 swap 1 0
        0 5 swap 2 0
    """,
    "a value that nobody wrote": """
        0 5 write 1 -
        0 5 read - 2
    """,
}
GOOD_PROMISES = {
    "the first wins": """
        0 5 seal 1 0
        0 5 seal 2 1
        1 2 get - 2
        6 7 get - 2
        6 7 ready - 1
    """,
    "nothing, then something": """
        0 9 seal 1 1
        1 2 get - -
        3 4 get - 1
        3 4 ready - 1
    """,
    "one that died in the middle": """
        0 ... seal 1 -
        5 6 get - 1
        7 8 seal 2 0
    """,
}
BAD_PROMISES = {
    "two winners": """
        0 5 seal 1 1
        0 5 seal 2 1
    """,
    "no winner": """
        0 5 seal 1 0
    """,
    "the loser's value": """
        0 5 seal 1 0
        0 5 seal 2 1
        1 2 get - 1
    """,
    "it changes": """
        0 9 seal 1 1
        0 ... seal 2 -
        1 2 get - 1
        3 4 get - 2
    """,
    "it is gone again": """
        0 9 seal 1 1
        1 2 ready - 1
        3 4 get - -
    """,
    "not seen after it was there": """
        0 1 seal 1 1
        2 3 ready - 0
    """,
}


@pytest.mark.parametrize("name", GOOD)
def test_registers(name: str) -> None:
    assert is_linearizable(history(GOOD[name]), 0, register)


@pytest.mark.parametrize("name", BAD)
def test_registers_that_lie(name: str) -> None:
    assert not is_linearizable(history(BAD[name]), 0, register)


@pytest.mark.parametrize("name", GOOD_PROMISES)
def test_promises(name: str) -> None:
    assert is_linearizable(history(GOOD_PROMISES[name]), None, write_once)


@pytest.mark.parametrize("name", BAD_PROMISES)
def test_promises_that_lie(name: str) -> None:
    assert not is_linearizable(history(BAD_PROMISES[name]), None, write_once)


def test_how_many_at_once() -> None:
    assert most_at_once(history(GOOD["sums"])) == 3
    assert most_at_once(history(BAD["a read of what was overwritten"])) == 1


def explained(operations: list[Operation]) -> bool:
    """By trying every order: the definition, word for word."""
    for order in itertools.permutations(operations):
        in_order = all(
            not later.returned < earlier.called for earlier, later in itertools.combinations(order, 2)
        )
        states = [0] if in_order else []
        for operation in order:
            states = [after for state in states for after in register(state, operation)]
        if states:
            return True
    return False


def test_against_every_order() -> None:
    chance = random.Random(run_number())
    verdicts = []
    for _ in range(examples(300)):
        operations = []
        for caller in range(5):
            called = chance.randrange(8)
            name = chance.choice(["read", "write", "swap", "add"])
            argument = None if name == "read" else chance.randrange(1, 3)
            result = None if name == "write" else chance.randrange(3)
            end = called + chance.randrange(1, 8)
            operations.append(Operation(str(caller), called, end, name, argument, result))
        verdicts.append(is_linearizable(operations, 0, register))
        assert verdicts[-1] == explained(operations), "\n".join(map(str, operations))
    assert {True, False} == set(verdicts)
