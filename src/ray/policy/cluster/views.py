"""What the head tells of the nodes' states: to whom, when, and how little.

All of it to all of them is n² in bytes and in CPU. So what is told is numbered, and who reads is told only
what has changed since the number that it has. In a cluster of more than `ALL_TOLD` nodes what the others have
free is told only to those that have tasks to place; the rest hears who comes and goes. And the more nodes
there are, the more time lies between two numbers.

No number is missed: links keep their order, and a reader whose link begins anew begins with everything.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

LEAST_MS = 100  # between two numbers, whatever changes
REPEAT_MS = 1_000  # all are told this often even if nothing has changed: it says that the head is there
NODES_A_MS = 10  # from a thousand nodes on: a millisecond more between two numbers for so many
ALL_TOLD = 100  # nodes: in a larger cluster what changes all the time is for those that place tasks
MAX_GONE = 1_000  # that are remembered by name: who knows less is told everything

NodeId = bytes


def least_ms(nodes: int) -> int:
    """Between two numbers, and between two reports of one node, in a cluster of that size."""
    return max(LEAST_MS, nodes // NODES_A_MS)


@dataclass(frozen=True, slots=True)
class Edition:
    """What some readers are told. `since` 0: everything, and `nodes` are all that there are."""

    number: int
    since: int
    loads: bool  # what has changed is all there; else who has come, and who has gone, only
    nodes: list[NodeId]
    gone: list[NodeId]
    readers: list[NodeId] = field(default_factory=list)


@dataclass(slots=True)
class _Reader:
    """Numbers of what it knows; 0: nothing yet."""

    members: int = 0
    loads: int = 0


class Board:
    """The nodes, when each has changed, and what each reader knows of it."""

    def __init__(self) -> None:
        self.number = 0
        self._changed: dict[NodeId, int] = {}  # with which number; the last ones last
        self._come: dict[NodeId, int] = {}  # the same, of their coming
        self._gone: deque[tuple[int, NodeId]] = deque()
        self._members_changed = 0  # the number of the last that came or went
        self._forgotten = 0  # the number of the last of the gone that is not remembered any more
        self._readers: dict[NodeId, _Reader] = {}
        self._repeated_ms: int | None = None

    def __len__(self) -> int:
        return len(self._changed)

    def change(self, node: NodeId) -> None:
        """What is known of it is another from now on."""
        self._changed.pop(node, None)
        self._changed[node] = self.number + 1

    def come(self, node: NodeId) -> None:
        """It is new, or to be found elsewhere."""
        self.change(node)
        self._come.pop(node, None)
        self._come[node] = self._members_changed = self.number + 1

    def go(self, node: NodeId) -> None:
        """It is none of them any more, and its name does not come again."""
        self._changed.pop(node, None)
        self._come.pop(node, None)
        self._readers.pop(node, None)
        self._members_changed = self.number + 1
        self._gone.append((self.number + 1, node))
        if len(self._gone) > MAX_GONE:
            self._forgotten, _ = self._gone.popleft()

    def begin(self, reader: NodeId) -> None:
        """It knows nothing of what it was told before."""
        self._readers[reader] = _Reader()

    def end(self, reader: NodeId) -> None:
        """It can't be told anything."""
        self._readers.pop(reader, None)

    def publish(self, now_ms: int, seeks: Callable[[NodeId], bool]) -> list[Edition]:
        """The next number: what each reader is told. `seeks` says whether a node has tasks to place."""
        self.number += 1
        repeats = self._repeated_ms is None or now_ms - self._repeated_ms >= REPEAT_MS
        if repeats:
            self._repeated_ms = now_ms
        all_told = len(self._changed) <= ALL_TOLD
        groups: dict[tuple[int, bool], list[NodeId]] = {}
        for node, reader in self._readers.items():
            if all_told or seeks(node) or not reader.members:
                groups.setdefault((self._known(reader.loads), True), []).append(node)
                reader.loads = reader.members = self.number
            elif repeats or reader.members < self._members_changed:
                since = self._known(reader.members)
                groups.setdefault((since, not since), []).append(node)
                reader.members = self.number
                if not since:
                    reader.loads = self.number
        return [self._edition(since, loads, readers) for (since, loads), readers in groups.items()]

    def _known(self, number: int) -> int:
        """What may be told on top of it; 0: nothing, since not all is remembered that is missing."""
        return number if number >= self._forgotten else 0

    def _edition(self, since: int, loads: bool, readers: list[NodeId]) -> Edition:
        nodes = _after(since, self._changed if loads else self._come)
        gone = [node for number, node in self._gone if number > since]
        return Edition(self.number, since, loads, nodes, gone, readers)


def _after(since: int, numbers: dict[NodeId, int]) -> list[NodeId]:
    """Those of a later number, the oldest first; what is older is not looked at."""
    found = []
    for node in reversed(numbers):
        if numbers[node] <= since:
            break
        found.append(node)
    found.reverse()
    return found
