"""Links between nodes, as TCP has them: each direction in order, or not at all.

What is told to the ends (`End`): `on_link_up`, `on_link_down` and `on_message`, and always down before up
again. A link that breaks is noticed by its two ends at different times. What was on its way is lost, except
that each end still gets some of what had reached its machine before. Nothing of an old link arrives after a
new one is up.
"""

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from tests.simulator.world import World

NOTICED_US = 20_000  # a broken link is noticed within this time
RETRY_US = 5_000
# On its way a message is at most so long, by the link's direction, and sometimes much longer.
USUAL_US = (200, 200, 2_000, 10_000)
SLOW_US = 20_000
SLOW_CHANCE = 0.1


class End(Protocol):
    """What a node's links speak to."""

    def on_link_up(self, node: bytes) -> None: ...
    def on_link_down(self, node: bytes) -> None: ...
    def on_message(self, node: bytes, message: object) -> None: ...


@dataclass(slots=True)
class _Direction:
    """From one end of one link to the other."""

    source: bytes
    target: bytes
    usual_us: int
    waiting: deque[object] = field(default_factory=deque)  # sent, and not arrived
    busy_until_us: int = 0
    legs: tuple[tuple[bytes, bytes], ...] = ()  # whom it passes: more than one when it goes around
    target_up: bool = False  # as the target knows
    steady_since_us: int = 0
    was_up: bool = False
    lost: bool = False

    def host_legs(self) -> list[tuple[bytes, bytes]]:
        return [(_host(source), _host(target)) for source, target in self.legs]


class Network:
    """All links of one run."""

    def __init__(self, world: World, retry_us: int = RETRY_US) -> None:
        """`retry_us`: between two attempts to open a link."""
        self.world = world
        self.retry_us = retry_us
        self.sent = 0
        self._ends: dict[bytes, End] = {}
        self._directions: dict[tuple[bytes, bytes], _Direction] = {}
        self._cut: set[tuple[bytes, bytes]] = set()
        self._wanted: set[frozenset[bytes]] = set()
        self.stopped: set[bytes] = set()  # whose process does nothing: no link to it comes up

    def join(self, node: bytes, end: End) -> None:
        self._ends[node] = end

    def leave(self, node: bytes) -> None:
        """The node dies: its links break, and it notices nothing any more."""
        del self._ends[node]
        for source, target in list(self._directions):
            if target == node:
                self.forget(source, target)
            elif source == node:
                self.break_link(source, target)

    def is_present(self, node: bytes) -> bool:
        return node in self._ends

    def want_link(self, one: bytes, other: bytes) -> None:
        """Opens a link if `one` knows of none; again and again until it is up, or one of the nodes is
        gone."""
        pair = frozenset((one, other))
        if pair not in self._wanted and (other, one) not in self._directions:
            self._wanted.add(pair)
            self.world.after(self._delay_us(), lambda: self._connect(one, other))

    def send(self, source: bytes, target: bytes, message: object) -> None:
        """On a link that has broken unnoticed, it is lost."""
        direction = self._directions.get((source, target))
        back = self._directions.get((target, source))
        assert back is None or back.target_up, "a message on a link that is known to be down"
        if direction is None or direction.lost:
            return
        self.sent += 1
        direction.waiting.append(message)
        self._carry(direction)

    def break_link(self, one: bytes, other: bytes) -> None:
        """Breaks the link between the two, if there is one."""
        for pair in ((one, other), (other, one)):
            direction = self._directions.get(pair)
            if direction is None or direction.lost:
                continue
            direction.lost = True
            # What had reached the target's machine before is still read from there.
            arrived = self.world.random.randint(0, len(direction.waiting))
            while len(direction.waiting) > arrived:
                direction.waiting.pop()
            noticed_us = self.world.random.randrange(NOTICED_US)
            self.world.after(noticed_us, partial(self._notice, direction))

    def forget(self, source: bytes, target: bytes) -> None:
        """The target's process has begun anew and knows of no link from the source."""
        if direction := self._directions.pop((source, target), None):
            direction.lost = True
            direction.target_up = False
            direction.waiting.clear()

    def cut(self, source: bytes, target: bytes) -> None:
        """Nothing gets from source to target any more; what is sent waits, as TCP tries again."""
        self._cut.add((_host(source), _host(target)))

    def heal(self, source: bytes, target: bytes) -> None:
        healed = _host(source), _host(target)
        self._cut.discard(healed)
        for direction in list(self._directions.values()):
            if healed in direction.host_legs():
                direction.steady_since_us = self.world.now_us
                self._carry_all(direction)

    def reaches(self, one: bytes, other: bytes) -> bool:
        """Whether what is sent arrives, both ways."""
        return {one, other} <= self._ends.keys() - self.stopped and not self.is_cut(one, other)

    def is_steady(self, one: bytes, other: bytes, since_us: int) -> bool:
        """Whether their link has been up, and nothing was in its way, ever since."""
        links = [self._directions.get(pair) for pair in ((one, other), (other, one))]
        return not self.is_cut(one, other) and all(
            link is not None and link.target_up and not link.lost and link.steady_since_us <= since_us
            for link in links
        )

    def is_cut(self, one: bytes, other: bytes) -> bool:
        """In one direction at least."""
        here, there = _host(one), _host(other)
        return (here, there) in self._cut or (there, here) in self._cut

    def close(self, one: bytes, other: bytes) -> None:
        """`one` closes the link: it knows at once, the other when it has got what was sent before."""
        here, there = self._directions.get((other, one)), self._directions.get((one, other))
        if here is not None:
            self._drop(here)
        if there is not None and not there.lost:
            there.lost = True
            if self._is_cut(there):
                there.waiting.clear()
                return
            read_us = max(0, there.busy_until_us - self.world.now_us)
            noticed_us = read_us + self.world.random.randrange(1, NOTICED_US)
            self.world.after(noticed_us, partial(self._notice, there))

    def link_around(self, one: bytes, other: bytes, way: bytes) -> bool:
        """Opens a link that passes a third node, if that reaches both."""
        if not (self.reaches(one, way) and self.reaches(way, other)):
            return False
        self._link(one, other, way)
        return True

    def link_anew(self, one: bytes, other: bytes) -> None:
        """Opens a direct link instead of what there is, if they reach each other."""
        if self.reaches(one, other):
            self._link(one, other, None)

    def heal_all(self) -> None:
        for source, target in sorted(self._cut):
            self.heal(source, target)

    def _delay_us(self, usual_us: int = USUAL_US[0]) -> int:
        random = self.world.random
        most_us = SLOW_US if random.random() < SLOW_CHANCE else usual_us
        return 1 + random.randrange(most_us)

    def _connect(self, one: bytes, other: bytes) -> None:
        if one not in self._ends or other not in self._ends:
            self._wanted.discard(frozenset((one, other)))
            return
        if not self.reaches(one, other):
            self.world.after(self.retry_us, lambda: self._connect(one, other))
            return
        self._wanted.discard(frozenset((one, other)))
        self._link(one, other, None)

    def _link(self, one: bytes, other: bytes, way: bytes | None) -> None:
        for source, target in ((one, other), (other, one)):
            if old := self._directions.get((source, target)):
                self._drop(old)
        for source, target in ((one, other), (other, one)):
            legs = ((source, target),) if way is None else ((source, way), (way, target))
            direction = self._directions[source, target] = _Direction(
                source, target, self.world.random.choice(USUAL_US), legs=legs
            )
            self.world.after(self._delay_us(), partial(self._up, direction))

    def _up(self, direction: _Direction) -> None:
        """The target learns of the link, and may send from now on."""
        if self._directions.get((direction.source, direction.target)) is not direction or direction.lost:
            return
        direction.target_up = direction.was_up = True
        direction.steady_since_us = self.world.now_us
        self.world.tell(lambda: f"{direction.target!r}: link to {direction.source!r} is up")
        self._ends[direction.target].on_link_up(direction.source)
        self._carry_all(direction)

    def _carry_all(self, direction: _Direction) -> None:
        for _ in direction.waiting:
            self._carry(direction)

    def _is_cut(self, direction: _Direction) -> bool:
        return any(leg in self._cut for leg in direction.host_legs())

    def _carry(self, direction: _Direction) -> None:
        if self._is_cut(direction):
            return
        arrives_us = max(self.world.now_us + self._delay_us(direction.usual_us), direction.busy_until_us)
        direction.busy_until_us = arrives_us
        self.world.after(arrives_us - self.world.now_us, lambda: self._arrive(direction))

    def _arrive(self, direction: _Direction) -> None:
        if self._is_cut(direction) or not direction.target_up or not direction.waiting:
            return
        message = direction.waiting.popleft()
        self.world.tell(lambda: f"{direction.target!r}: from {direction.source!r}: {message}")
        self._ends[direction.target].on_message(direction.source, message)

    def _notice(self, direction: _Direction) -> None:
        pair = direction.source, direction.target
        if self._directions.get(pair) is direction:
            self._drop(direction)
            if not direction.was_up:
                # It broke before it was up: who wanted it wants it still.
                self.want_link(direction.target, direction.source)

    def _drop(self, direction: _Direction) -> None:
        """The target notices that the link is down."""
        direction.lost = True
        direction.waiting.clear()
        self._directions.pop((direction.source, direction.target), None)
        if direction.target_up:
            direction.target_up = False
            if end := self._ends.get(direction.target):
                self.world.tell(lambda: f"{direction.target!r}: link to {direction.source!r} is down")
                end.on_link_down(direction.source)


def _host(node: bytes) -> bytes:
    """Incarnations of one node, called a, a1, a2, are behind the same cable."""
    return node[:1]
