"""Ids that a dead node owned, that something here refers to, and of which this node has no value.

Another node may have a copy, or may have passed the id on and hold the value for it. So the dead node is
buried here (`Exchange.on_death`), and what nobody has is lost, only when others were asked (`AskCopies`).
Each says of which it has a copy (`Copies`), and lends these; then one of them is asked for the value, as an
owner would be. Who has none says so at once, whatever it knows of the death and of the id: two that look for
the same don't wait for each other. Who does not answer is waited for `TICKS` at most, and a value that is on
its way `FETCH_TICKS`.

No arena, no messages: what follows from an event is to be asked for (`questions`, `lost`, `over`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ray import _kernel

AT_ONCE = 8  # nodes that are asked at a time for what one node owned
MOST_NODES = 64  # that are asked, and
MOST_IDS = 4_096  # that are asked for; what is beyond is lost with its owner
TICKS = 30  # of the exchange: three seconds of a busy node manager
FETCH_TICKS = 300


@dataclass(slots=True)
class _Late:
    """What one dead node owned."""

    node: bytes
    held: dict[bytes, _kernel.ObjectID]  # that are neither here nor lost yet
    others: list[int]  # that can be asked; who is asked first
    to_ask: list[int]
    asked: dict[int, set[bytes]] = field(default_factory=dict)  # for which ids, without an answer yet
    copies: dict[bytes, list[int]] = field(default_factory=dict)  # who has said that it has one
    refused: set[tuple[bytes, int]] = field(default_factory=set)  # who has said so, and had none
    ticks: int = TICKS
    fetch_ticks: int = FETCH_TICKS

    def open(self) -> list[bytes]:
        """Ids of which nobody is known to have a copy."""
        return [raw for raw in self.held if not self.copies.get(raw)]

    def without(self, raw: bytes, peer: int) -> None:
        """That one has no copy after all: all are asked again if no other has one."""
        if peer in self.copies.get(raw, ()):
            self.copies[raw].remove(peer)
            if not self.copies[raw]:
                self.to_ask = [other for other in self.others if other not in self.asked]


class Orphans:
    """By the number of the dead node."""

    def __init__(self) -> None:
        self._late: dict[int, _Late] = {}

    def __bool__(self) -> bool:
        return bool(self._late)

    def add(self, owner: int, node: bytes, held: dict[bytes, _kernel.ObjectID], others: list[int]) -> None:
        self._late[owner] = _Late(node, held, others, list(others))

    def number(self, node: bytes) -> int | None:
        """Of a dead node that is not buried yet."""
        return next((number for number, late in self._late.items() if late.node == node), None)

    def questions(self) -> list[tuple[int, bytes, list[bytes]]]:
        """Whom to ask now, of which dead node's ids. Each is asked once."""
        due = []
        for late in self._late.values():
            ids = late.open() if late.to_ask else []
            while ids and late.to_ask and len(late.asked) < AT_ONCE:
                peer = late.to_ask.pop(0)
                late.asked[peer] = set(ids)
                due.append((peer, late.node, ids))
        return due

    def answered(self, owner: int, by: int, ids: Iterable[bytes]) -> list[bytes]:
        """That one has copies of these; of which of them nobody was known to have one."""
        late = self._late[owner]
        new = []
        for raw in ids:
            if raw in late.held and (raw, by) not in late.refused:
                copies = late.copies.setdefault(raw, [])
                if not copies:
                    new.append(raw)
                if by not in copies:
                    copies.append(by)
        question = late.asked.pop(by, None)
        # It was asked before it turned out that others have no copy of these after all.
        if question is not None and any(raw not in question for raw in late.open()):
            late.to_ask.append(by)
        return new

    def holds(self, owner: int, raw: bytes) -> bool:
        late = self._late.get(owner)
        return late is not None and raw in late.held

    def holder(self, raw: bytes, asked: int) -> int:
        """Whom to ask instead of a dead owner."""
        late = self._late.get(asked)
        copies = late.copies.get(raw) if late is not None else None
        return copies[0] if copies else asked

    def refused(self, raw: bytes, owner: int, by: int) -> None:
        """That one has no value."""
        late = self._late.get(owner)
        if late is not None:
            late.refused.add((raw, by))
            late.without(raw, by)

    def synced(self, peer: int) -> None:
        """There is a new link: what it was asked over the last one may be lost."""
        for late in self._late.values():
            if late.asked.pop(peer, None) is not None:
                late.to_ask.insert(0, peer)

    def unlinked(self, peer: int) -> None:
        """Others go before it, as long as there is no link."""
        for late in self._late.values():
            for raw in list(late.copies):
                late.without(raw, peer)

    def gone(self, peer: int) -> None:
        """It can't be asked any more."""
        self.unlinked(peer)
        for late in self._late.values():
            late.asked.pop(peer, None)
            late.others = [other for other in late.others if other != peer]
            late.to_ask = [other for other in late.to_ask if other != peer]

    def tick(self, is_ready: Callable[[bytes], bool]) -> None:
        """Time goes by. What is ready is not looked for any more."""
        for late in self._late.values():
            late.held = {raw: oid for raw, oid in late.held.items() if not is_ready(raw)}
            late.ticks -= bool(late.open())
            late.fetch_ticks -= 1

    def lost(self) -> list[tuple[bytes, bytes, _kernel.ObjectID]]:
        """What nobody has, as far as could be found out, behind the node that owned it. It is forgotten
        here."""
        found = []
        for late in self._late.values():
            lost: list[bytes] = []
            if late.fetch_ticks <= 0:
                lost = list(late.held)
            elif late.ticks <= 0 or not (late.asked or late.to_ask):
                lost = late.open()
            found += [(late.node, raw, late.held.pop(raw)) for raw in lost]
        return found

    def over(self) -> list[int]:
        """The dead nodes for which there is nothing more to wait for. They are forgotten here."""
        return self._end([owner for owner, late in self._late.items() if not late.held])

    def end(self) -> list[int]:
        """Nothing more is waited for."""
        return self._end(list(self._late))

    def _end(self, owners: list[int]) -> list[int]:
        for owner in owners:
            del self._late[owner]
        return owners
