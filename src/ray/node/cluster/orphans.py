"""Ids of a dead node's that came to this one by way of another, too late for their owner to confirm them.

The owner did not know that this node has them; a node that leaves has offered it nothing. But whoever passed
them on holds them for this one until they are returned, and may have the values. So the dead node is buried
here only when these have been asked (`Exchange.on_death`). Who knows no more than this node says so when it
has buried the owner itself; two that wait for each other stop after `TICKS`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ray import _kernel

TICKS = 30  # of the exchange: three seconds of a busy node manager


@dataclass(slots=True)
class _Late:
    """What one dead node owned."""

    lenders: dict[bytes, list[int]]  # by id: peers that passed it on; who is asked first
    held: list[_kernel.ObjectID]
    ticks: int = TICKS


class Orphans:
    """By the number of the dead node."""

    def __init__(self) -> None:
        self._late: dict[int, _Late] = {}

    def __bool__(self) -> bool:
        return bool(self._late)

    def add(self, owner: int, lenders: dict[bytes, list[int]], held: list[_kernel.ObjectID]) -> None:
        self._late[owner] = _Late(lenders, held)

    def holder(self, raw: bytes, asked: int) -> int:
        """Whom to ask instead of a dead owner."""
        late = self._late.get(asked)
        lenders = late.lenders.get(raw) if late is not None else None
        return lenders[0] if lenders else asked

    def refused(self, raw: bytes, owner: int, by: int) -> None:
        """That one has no value, and won't have any."""
        late = self._late.get(owner)
        if late is not None and by in late.lenders.get(raw, ()):
            late.lenders[raw].remove(by)

    def gone(self, peer: int) -> None:
        """It can't be asked any more."""
        for late in self._late.values():
            for lenders in late.lenders.values():
                if peer in lenders:
                    lenders.remove(peer)

    def tick(self, is_ready: Callable[[bytes], bool]) -> list[int]:
        """The dead nodes for which there is nothing more to wait for. They are forgotten here."""
        over = []
        for owner, late in self._late.items():
            late.ticks -= 1
            late.lenders = {raw: to for raw, to in late.lenders.items() if to and not is_ready(raw)}
            if not late.lenders or late.ticks <= 0:
                over.append(owner)
        return self.end(over)

    def end(self, owners: list[int] | None = None) -> list[int]:
        """Nothing more is waited for; all of them if none are named."""
        over = list(self._late) if owners is None else owners
        for owner in over:
            del self._late[owner]
        return over
