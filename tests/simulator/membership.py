"""A run of a whole cluster: partitions, silent nodes, deaths, a control store that goes away, a head that is
started anew without one; then rest.

What must hold throughout:

- nobody is declared dead that still acts for others: it is gone, or has fenced itself;
- while the control store is away nobody is declared dead;
- what a driver has read of its own results stays as it was, whoever ran the task again;
- of nodes that nothing happens to, nobody is declared dead and nobody fences itself.

And in the end, when all links are whole: every living node is a member that acts, every wait has ended, and
nothing is kept that nobody can reach.
"""

from dataclasses import dataclass
from functools import partial

from tests.simulator.citizen import Citizen, Store
from tests.simulator.machine import Watch
from tests.simulator.network import Network
from tests.simulator.world import World

S = 1_000_000
CLUSTER_NODES = 4
WORK_US = 60 * S
HEALED_US = 45 * S  # after the last fault, until all is as it should be
DONE_US = 40 * S  # after everything is let go, with the grace that the dead have
RETRY_US = S // 4
AWAY_US = 8 * S  # from a head's death to the next one, at most
NEW_HEAD_STEPS = 10
NEW_HEAD_US = 8 * S  # in which it takes these


@dataclass(frozen=True, slots=True)
class Troubles:
    """How many of each kind a run has, at most."""

    partitions: int = 0  # one node, cut off from all others
    cuts: int = 0  # two nodes that don't reach each other, in one direction or both
    stops: int = 0  # node managers that are stopped for a while
    deaths: int = 0
    outages: int = 0  # of the control store
    new_heads: int = 0  # the head's machine dies, and another begins in its place, which knows nothing


CALM = Troubles()
PARTITIONS = Troubles(partitions=2)
CUTS = Troubles(cuts=2)
STOPS = Troubles(stops=2)
NEW_HEADS = Troubles(new_heads=2)
ALL = Troubles(partitions=1, cuts=1, stops=1, deaths=1, outages=1, new_heads=1)
TROUBLES = {
    "calm": CALM,
    "partitions": PARTITIONS,
    "cuts": CUTS,
    "stops": STOPS,
    "new-heads": NEW_HEADS,
    "all": ALL,
}


class ClusterRun:
    """One seed."""

    def __init__(
        self, seed: int, troubles: Troubles, nodes: int = CLUSTER_NODES, story: bool = False
    ) -> None:
        self.world = World(seed, story)
        self.network = Network(self.world, RETRY_US)
        self.watch = Watch(self.world)
        self.store = Store(self.world)
        self.troubles = troubles
        self.troubled: set[bytes] = set()  # nodes that something was done to
        self.heads = 1  # so far
        self.has_been_silent = False  # a head that had died: as if it were cut off
        names = [bytes([97 + index]) for index in range(nodes)]
        self.citizens = [self._citizen(name, self.store if name == names[0] else None) for name in names]
        for citizen in self.citizens:
            citizen.others = [other for other in self.citizens if other is not citizen]

    def _citizen(self, name: bytes, store: Store | None) -> Citizen:
        citizen = Citizen(name, self.world, self.network, self.watch, store)
        citizen.on_buried = self._on_buried
        citizen.on_fenced = self._on_fenced
        return citizen

    @property
    def head(self) -> Citizen:
        return self.citizens[0]

    def play(self, steps: int = 60) -> Watch:
        """All of it; what went wrong is in the watch."""
        world, random = self.world, self.world.random
        for citizen in self.citizens:
            for _ in range(steps):
                world.after(random.randrange(WORK_US), citizen.step)
        self._plan()
        world.run(WORK_US)
        self._end_troubles()
        world.run(WORK_US + HEALED_US)
        self._check_members()
        self._check_waits()
        for citizen in self.citizens:
            citizen.held.clear()
            citizen.waits.clear()
        world.run(WORK_US + HEALED_US + DONE_US)
        self._check_empty()
        return self.watch

    def _plan(self) -> None:
        random, troubles = self.world.random, self.troubles
        for count, trouble in (
            (troubles.partitions, self._partition),
            (troubles.cuts, self._cut),
            (troubles.stops, self._stop),
            (troubles.deaths, self._kill),
            (troubles.outages, self._outage),
            (troubles.new_heads, self._kill_head),
        ):
            for _ in range(random.randint(0, count)):
                self.world.after(random.randrange(2 * S, WORK_US), trouble)

    def _partition(self) -> None:
        one = self.world.random.choice(self.citizens[1:])
        self.world.tell(lambda: f"{one.name!r} is cut off")
        self.troubled.add(one.first_name)
        length_us = self._length_us()
        for other in one.others:
            self._cut_pair(one.name, other.name, True, length_us)

    def _cut(self) -> None:
        one, other = self.world.random.sample(self.citizens, 2)
        both = self.world.random.random() < 0.5
        self.world.tell(
            lambda: f"nothing gets from {one.name!r} to {other.name!r}{' nor back' if both else ''}"
        )
        self._cut_pair(one.name, other.name, both, self._length_us())

    def _length_us(self) -> int:
        return self.world.random.randrange(self.world.random.choice((4 * S, 12 * S, 40 * S)))

    def _cut_pair(self, one: bytes, other: bytes, both: bool, length_us: int) -> None:
        self.network.cut(one, other)
        self.world.after(length_us, partial(self.network.heal, one, other))
        if both:
            self.network.cut(other, one)
            self.world.after(length_us, partial(self.network.heal, other, one))

    def _stop(self) -> None:
        one = self.world.random.choice(self.citizens)
        if one.alive and not one.is_stopped:
            self.troubled.update(
                each.first_name for each in ([one] if one is not self.head else self.citizens)
            )
            one.stop(self.world.random.randrange(20 * S))

    def _kill(self) -> None:
        one = self.world.random.choice(self.citizens[1:])
        if one.alive:
            self.watch.deaths += 1
            one.refuses = self.world.random.random() < 0.5
            self.troubled.add(one.first_name)
            one.kill()

    def _outage(self) -> None:
        if self.store.is_up:
            self.store.set_up(False)
            self.world.after(self.world.random.randrange(20 * S), partial(self.store.set_up, True))

    def _kill_head(self) -> None:
        old = self.head
        if not old.alive:
            return
        self.watch.deaths += 1
        old.refuses = self.world.random.random() < 0.5
        # Behind a link that is cut, a machine that refuses is silent as well.
        self.has_been_silent = self.has_been_silent or not old.refuses or self.troubles.cuts > 0
        old.kill()
        self.world.after(self.world.random.randrange(AWAY_US), partial(self._replace, old))

    def _replace(self, old: Citizen) -> None:
        self.store = Store(self.world)
        head = self._citizen(old.first_name[:1] + b"h%d" % self.heads, self.store)
        self.heads += 1
        self.world.tell(lambda: f"{head.name!r} is the head now")
        others = self.citizens[1:]
        self.citizens[0] = head
        head.others = [*others]
        old.successor = head
        for other in others:
            other.others.insert(0, head)
        for _ in range(NEW_HEAD_STEPS):
            self.world.after(self.world.random.randrange(NEW_HEAD_US), head.step)

    def _end_troubles(self) -> None:
        self.network.heal_all()

    # --- what must hold throughout ---

    def _on_buried(self, who: Citizen, node: bytes) -> None:
        if who is self.head:
            self.watch.deaths += 1  # for all others it is one
            if not self.store.is_up and node[:1] != who.name[:1]:  # that there was a head before it, all know
                self.watch.problem(f"{node!r} was declared dead without a control store")
        dead = next((each for each in self.citizens if each.name == node), None)
        if dead is None or not dead.alive:
            return
        if not dead.is_stopped and dead.standing.may_act():
            self.watch.problem(f"{node!r} was declared dead, and acts for others")
        if dead.first_name not in self.troubled:
            self.watch.problem(f"{node!r} was declared dead, and nothing had been done to it")

    def _on_fenced(self, who: Citizen) -> None:
        # Links alone: there is a way around all of them. A head that refuses is no reason either.
        if not self.troubled and not self.has_been_silent:
            self.watch.problem(f"{who.name!r} fences itself, and nothing had been done to it")

    # --- and in the end ---

    def _check_members(self) -> None:
        living = {each.name for each in self.citizens if each.alive}
        for each in self.citizens:
            if each.alive and not each.standing.may_act():
                self.watch.problem(f"{each.name!r} is still fenced")
            if each.alive and each.standing.present != living:
                self.watch.problem(f"{each.name!r} takes {each.standing.present} for members, not {living}")

    def _check_waits(self) -> None:
        for each in self.citizens:
            if each.alive:
                for oid in each.waits:
                    self.watch.problem(f"{each.name!r} waits for {oid} for ever")

    def _check_empty(self) -> None:
        for each in self.citizens:
            if each.alive and not each.arena.is_empty():
                self.watch.problem(f"{each.name!r} keeps what nobody can reach:\n{each.arena.contents()}")


def play_cluster(seed: int, troubles: Troubles, nodes: int = CLUSTER_NODES) -> list[str]:
    """What went wrong with this seed."""
    return ClusterRun(seed, troubles, nodes).play().problems


def story_of_cluster(seed: int, troubles: Troubles, nodes: int = CLUSTER_NODES) -> str:
    """The same run again, told."""
    run = ClusterRun(seed, troubles, nodes, story=True)
    problems = run.play().problems
    return "\n".join([*run.world.story, *problems])
