"""Many small pieces of work of one kind, asked for in the two ways: pipelined, and one at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from questions import Repeats, check, rates, warm
from work import Counter, noop

PIPELINED = 10_000
WARM = 1_000


@dataclass
class Stream:
    """The first two run so many pieces and return their results; `confirm` raises if these are wrong."""

    submit_and_get: Callable[[int], list[Any]]  # all are submitted before the first is got
    get_each: Callable[[int], list[Any]]  # before the next is submitted
    confirm: Callable[[list[Any]], None]

    def pipelined(self, repeats: Repeats) -> list[float]:
        """How many a second, of 10,000."""
        warm(lambda: self._run(self.submit_and_get, WARM))
        return rates(lambda: self._run(self.submit_and_get, PIPELINED), repeats)

    def one_by_one(self, repeats: Repeats, count: int = 100) -> list[float]:
        warm(lambda: self._run(self.get_each, count))
        return rates(lambda: self._run(self.get_each, count), repeats)

    def _run(self, work: Callable[[int], list[Any]], count: int) -> int:
        self.confirm(work(count))
        return count


def noops(system: Any, **demands: Any) -> Stream:
    """Tasks that do nothing, with what they demand of their node."""
    task = system.remote(**demands)(noop) if demands else system.remote(noop)
    return Stream(
        lambda count: system.get([task.remote() for _ in range(count)]),
        lambda count: [system.get(task.remote()) for _ in range(count)],
        lambda found: check(found, [b"ok"] * len(found)),
    )


def calls(system: Any, ordered: bool = True) -> Stream:
    """Calls of one actor, each of which is made once; `ordered`: in the order asked for."""
    actor = system.remote(Counter).remote()
    made = 0

    def confirm(found: list[int]) -> None:
        nonlocal made
        check(found if ordered else sorted(found), list(range(made + 1, made + len(found) + 1)))
        made += len(found)

    return Stream(
        lambda count: system.get([actor.count.remote() for _ in range(count)]),
        lambda count: [system.get(actor.count.remote()) for _ in range(count)],
        confirm,
    )
