"""Which of this node's ready tasks go to which node now.

Amounts of resources are integers, 1/10,000 of a unit, one for each kind of resource, in the same order
everywhere.

The sender keeps its tasks as long as it can: what was sent and waits there can't go anywhere else without a
recall. So a node is sent what it can start at once, and as many more as end there before the next sending
arrives (its *buffer*; none for tasks that take long). A burst of short tasks is spread by many small
sendings, decided anew whenever results or reports come in, and not by dealing out the queue.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

MOST_BUFFERED = 2_000  # tasks beyond what runs, for each slot: more hide no round trip
REFILL_PART = 2  # a buffer is filled up when one part in so many of it is empty: few messages, not one a task
MOST_AT_ONCE = 1_000  # of one shape in one sending
STALE_MS = 2_000  # an older report says what a node has, not what it is free to do
WORTH_MOVING_BYTES = 1 << 20  # of a task's arguments: from here on where they are decides first

NodeId = bytes
Amounts = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Queue:
    """Ready tasks of one shape in this node's queues. Queues are given with the longest waiting first."""

    shape: int  # handle of the shape
    needs: Amounts
    ready: int
    task_ms: float | None = None  # how long one runs, as measured; None: not known yet
    argument_bytes: Mapping[NodeId, int] = field(
        default_factory=dict
    )  # of the next tasks, a task, by where they are


@dataclass(frozen=True, slots=True)
class Here:
    """This node."""

    node: NodeId
    total: Amounts
    free: Amounts
    draining: bool = False  # nothing new is started here
    turn: int = 0  # this node's rank among those that send, plus the report's number: each is first in turn


@dataclass(frozen=True, slots=True)
class Other:
    """Another node: what it has last reported, and what we have done since."""

    node: NodeId
    total: Amounts
    free: Amounts
    queued: int  # ready tasks there that have not started
    age_ms: int  # of the report
    ours: int = 0  # tasks of ours there, not finished
    unreported: int = 0  # of ours, sent less finished since the report; negative when more have finished
    round_trip_ms: float = 1.0  # from a task's end there until the next one we then send has arrived
    senders: int = 1  # nodes that have tasks to send, this one among them
    draining: bool = False
    ours_need: Amounts = ()  # what all of ours need, whether they run or wait; (): nothing


@dataclass(frozen=True, slots=True)
class Send:
    """So many of the shape's oldest tasks go to that node."""

    node: NodeId
    shape: int
    count: int


@dataclass(frozen=True, slots=True)
class Infeasible:
    """Nobody can ever run this as the cluster is now. It is kept, and its driver told what exists."""

    shape: int
    needs: Amounts


@dataclass(frozen=True, slots=True)
class Placement:
    """What to send now, and what can't be run anywhere."""

    sends: tuple[Send, ...]
    infeasible: tuple[Infeasible, ...]


def fits(amounts: Amounts, needs: Amounts) -> bool:
    """Whether one task can have what it needs."""
    return all(has >= needed for has, needed in zip(amounts, needs, strict=True))


def slots(amounts: Amounts, needs: Amounts) -> int:
    """How many tasks fit side by side; one that needs nothing at all counts as needing a whole of the first
    kind."""
    return max(0, _signed_slots(amounts, needs))


def _signed_slots(amounts: Amounts, needs: Amounts) -> int:
    """The same; of amounts below 0, how many tasks are too many, below 0."""
    if not any(needs):
        return amounts[0] // 10_000
    return min(has // needed for has, needed in zip(amounts, needs, strict=True) if needed)


def buffered(slot_count: int, task_ms: float | None, round_trip_ms: float) -> int:
    """How many tasks to have waiting at a node, so that it does not run dry until the next sending comes.

    None when a task takes long beside the round trip, or when it is not known how long: its first run will
    show.
    """
    if task_ms is None:
        return 0
    while_away = MOST_BUFFERED if task_ms <= 0 else min(MOST_BUFFERED, round_trip_ms / task_ms)
    return round(slot_count * while_away)


def share(count: int, senders: int, turn: int) -> int:
    """One sender's part of what a node can take, so that several that see the same report don't overfill it.

    What can't be divided goes to others of the senders with each report.
    """
    each, rest = divmod(count, max(senders, 1))
    return each + (turn % max(senders, 1) < rest)


class _Room:
    """What one node may still be sent in this decision.

    No report tells of tasks that others have sent there and that do not run yet: they are not that node's to
    send on. Ours are known here: what they need, and that node does not have, waits there (`left` below 0).
    """

    def __init__(self, other: Other, turn: int) -> None:
        self.other = other
        self.turn = turn
        self.free = other.free
        need = other.ours_need or (0,) * len(other.total)
        self.left = tuple(has - needed for has, needed in zip(other.total, need, strict=True))
        # Tasks there, or on their way, that do not run yet. Negative: more have ended than are free by the
        # report.
        self.waiting = other.queued + other.unreported
        self.given_to_run = 0
        self.given_to_wait = 0

    def idle(self, queue: Queue, only_elsewhere: bool) -> int:
        """Tasks of this shape that could start at once.

        `only_elsewhere`: the sender itself can never run them. Then each sender may have as many there as run
        side by side, however much waits there: else a node with work of its own would never be sent any.
        """
        other = self.other
        if not fits(other.total, queue.needs):
            return 0
        at_most = slots(other.total, queue.needs)
        unstarted = at_most - other.ours - self.given_to_run - self.given_to_wait
        if other.age_ms > STALE_MS:
            # Reports have stopped, with the head perhaps: as many as it has slots, all of ours counted.
            count = unstarted
        else:
            # Where one of ours has ended the next of ours has begun, if there was one.
            ended = min(max(0, -self.waiting), max(0, _signed_slots(self.left, queue.needs)))
            count = min(at_most, slots(self.free, queue.needs) - max(0, self.waiting) + ended)
            if only_elsewhere:
                count = max(count, unstarted)
        return self._share(count, self.given_to_run)

    def buffer(self, queue: Queue) -> int:
        """Tasks of this shape to have waiting there beyond those."""
        other = self.other
        if other.age_ms > STALE_MS or not fits(other.total, queue.needs):
            return 0
        wanted = buffered(slots(other.total, queue.needs), queue.task_ms, other.round_trip_ms)
        missing = wanted - max(0, self.waiting, -_signed_slots(self.left, queue.needs))
        return 0 if missing < wanted // REFILL_PART else self._share(missing, self.given_to_wait)

    def take(self, needs: Amounts, count: int, to_wait: bool) -> None:
        """`count` more are sent there; what fits in what is free starts, the others wait."""
        if to_wait:
            self.given_to_wait += count
        else:
            self.given_to_run += count
        ended = min(count, max(0, -self.waiting))
        starting = min(count - ended, max(0, slots(self.free, needs) - max(0, self.waiting)))
        self.free = tuple(has - starting * needed for has, needed in zip(self.free, needs, strict=True))
        self.waiting += count - starting
        self.left = tuple(has - count * needed for has, needed in zip(self.left, needs, strict=True))

    def _share(self, count: int, given: int) -> int:
        """This sender's part of `count` and what it was given before, less the latter."""
        if count <= 0:
            return 0
        return max(0, share(count + given, self.other.senders, self.turn) - given)


def place(here: Here, queues: Sequence[Queue], others: Iterable[Other]) -> Placement:
    """What goes where, now."""
    rooms = [_Room(other, here.turn) for other in others if not other.draining]
    totals = [room.other.total for room in rooms]
    if not here.draining:
        totals.append(here.total)
    sends: dict[tuple[NodeId, int], int] = {}
    infeasible = []
    free = here.free
    for queue in queues:
        if queue.ready <= 0:
            continue
        if not any(fits(total, queue.needs) for total in totals):
            infeasible.append(Infeasible(queue.shape, queue.needs))
            continue
        left = queue.ready
        runs_here = not here.draining and fits(here.total, queue.needs)
        # Large arguments draw a task to where they are, before this node is asked.
        if queue.argument_bytes:
            near = [room for room in rooms if _draw(queue, here, room) > 0]
            left -= _fill_idle(queue, here, near, left, sends, not runs_here)
        if runs_here:
            started = min(left, slots(free, queue.needs))
            free = tuple(has - started * needed for has, needed in zip(free, queue.needs, strict=True))
            left -= started
        left -= _fill_idle(queue, here, rooms, left, sends, not runs_here)
        if not left:
            continue
        if runs_here:
            # This node's own buffer comes first: its workers must not wait for tasks that were sent away.
            slowest = max((room.other.round_trip_ms for room in rooms), default=0.0)
            left -= min(left, buffered(slots(here.total, queue.needs), queue.task_ms, slowest))
        takers = [(room, room.buffer(queue)) for room in rooms]
        _deal(queue, _turned(takers, here.turn), left, sends, to_wait=True)
    placed = tuple(Send(node, shape, count) for (node, shape), count in sends.items())
    return Placement(placed, tuple(infeasible))


def _draw(queue: Queue, here: Here, room: _Room) -> int:
    """By how many times `WORTH_MOVING_BYTES` more of a task's arguments is there than here."""
    there = queue.argument_bytes.get(room.other.node, 0)
    return max(0, there - queue.argument_bytes.get(here.node, 0)) // WORTH_MOVING_BYTES


def _turned(items: list[tuple[_Room, int]], turn: int) -> list[tuple[_Room, int]]:
    """The same, begun elsewhere each time: else what can't be divided would always go to the same node."""
    start = turn % len(items) if items else 0
    return items[start:] + items[:start]


def _fill_idle(
    queue: Queue,
    here: Here,
    rooms: list[_Room],
    left: int,
    sends: dict[tuple[NodeId, int], int],
    only_elsewhere: bool,
) -> int:
    """Give each what it can start at once: where the bytes are, then where ours leave slots, then evenly.

    Returns how many in all.
    """
    groups: dict[tuple[int, bool], list[tuple[_Room, int]]] = {}
    for room in rooms:
        # Ours that still wait there for their arguments are neither running nor ready in any report.
        has_slots = room.other.ours < slots(room.other.total, queue.needs)
        group = groups.setdefault((_draw(queue, here, room), has_slots), [])
        group.append((room, room.idle(queue, only_elsewhere)))
    before = left
    for _, group in sorted(groups.items(), reverse=True):
        left -= _deal(queue, _turned(group, here.turn), left, sends, to_wait=False)
    return before - left


def _deal(
    queue: Queue,
    takers: list[tuple[_Room, int]],
    left: int,
    sends: dict[tuple[NodeId, int], int],
    to_wait: bool,
) -> int:
    """Deal tasks out in proportion to what each can take, none more than that.

    Returns how many were dealt.
    """
    wanted = sum(count for _, count in takers)
    if wanted <= 0 or left <= 0:
        return 0
    to_deal = min(left, wanted)
    asked = due = dealt = 0
    for room, count in takers:
        asked += count
        given = to_deal * asked // wanted - due
        due += given
        key = (room.other.node, queue.shape)
        given = min(given, MOST_AT_ONCE - sends.get(key, 0))
        if given > 0:
            sends[key] = sends.get(key, 0) + given
            room.take(queue.needs, given, to_wait)
            dealt += given
    return dealt
