"""A node that leaves in good order: when everything of it is in other hands, and when it goes.

A node that drains takes no work of others and gives back what has not begun. What runs, it finishes. All that
others have of it, it offers to them: objects of its own that they have borrowed, and results of their tasks
that are stored here. Then it goes, at the latest at its deadline.

`lent` counts both kinds: a result is lent to the owner of its task from the moment the task is received. It
is returned when the owner has it, and no longer among them; an object of this node's own stays lent, and is
in other hands when the borrower has said so (`taken`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

NodeId = bytes

OFFERED_AT_ONCE = 10_000  # ids in one message


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is at the node, read in this order: what was read earlier makes nothing of what comes later.

    Without tasks and drivers nothing new is lent; without results to be returned all that is in them is lent.
    """

    tasks: int  # here, whoever's they are, that are not done
    drivers: int
    unreturned: int  # tasks of others whose results they don't have yet
    lent: Mapping[NodeId, Sequence[bytes]]  # ids, by whom they are lent to
    owned: frozenset[bytes]  # of those the ids of this node's own objects


@dataclass(frozen=True, slots=True)
class Offer:
    """That node is to take what these ids stand for."""

    node: NodeId
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Leave:
    """Say goodbye, and end. What is left goes the way of a node that has died."""

    tasks: int
    drivers: int
    objects: int

    @property
    def is_clean(self) -> bool:
        """Whether nothing of it is missed by anybody."""
        return not (self.tasks or self.drivers or self.objects)


Action = Offer | Leave


class Drain:
    """One node's leaving. All times are milliseconds of one clock."""

    def __init__(self, deadline_ms: int) -> None:
        self.deadline_ms = deadline_ms
        self._offered: dict[NodeId, set[bytes]] = {}
        self._taken: dict[NodeId, set[bytes]] = {}

    def look(self, seen: Seen, now_ms: int) -> list[Action]:
        """What to do now. To be called several times a second."""
        actions: list[Action] = []
        missing = seen.unreturned
        for node, ids in seen.lent.items():
            taken = self._taken.get(node, set())
            missing += sum(each in seen.owned and each not in taken for each in ids)
            offered = self._offered.setdefault(node, set())
            fresh = [each for each in ids if each not in offered]
            offered.update(fresh)
            actions += [
                Offer(node, tuple(fresh[start : start + OFFERED_AT_ONCE]))
                for start in range(0, len(fresh), OFFERED_AT_ONCE)
            ]
        end = Leave(seen.tasks, seen.drivers, missing)
        return [end] if end.is_clean or now_ms >= self.deadline_ms else actions

    def taken(self, node: NodeId, ids: Iterable[bytes]) -> None:
        """That node has them now."""
        self._taken.setdefault(node, set()).update(ids)

    def returned(self, node: NodeId, ids: Iterable[bytes]) -> None:
        """That node has given them back. Those that are still among what it is lent it has been lent anew,
        and may have let go of what it had taken."""
        for states in (self._taken, self._offered):
            states.get(node, set()).difference_update(ids)

    def unlinked(self, node: NodeId) -> None:
        """What was under way to it is lost: all is offered again."""
        self._offered.pop(node, None)
