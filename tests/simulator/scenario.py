"""A run: nodes that work at random, and faults that come at random; then rest, and nothing may be left."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.simulator.machine import Machine, Watch
from tests.simulator.model_arena import ModelArena
from tests.simulator.network import Network
from tests.simulator.world import Unending, World

NODES = 3
REST_US = 20_000_000


@dataclass(frozen=True, slots=True)
class Faults:
    """How many of each kind a run has, at most."""

    breaks: int = 0  # links that break
    cuts: int = 0  # links on which nothing moves for a while, in one direction or both
    restarts: int = 0  # node managers that are killed
    deaths: int = 0  # nodes that are killed
    leaves: int = 0  # nodes that have no driver, and are drained: all of them
    actors: bool = False  # no fault: programs make actors
    steps: int = 50  # of each driver


QUIET = Faults()
BROKEN_LINKS = Faults(breaks=6, cuts=3)
RESTARTS = Faults(breaks=3, cuts=1, restarts=3)
DEATHS = Faults(breaks=3, cuts=1, restarts=1, deaths=1)
ACTORS = Faults(breaks=4, cuts=2, restarts=2, actors=True, steps=30)
ACTORS_AND_DEATHS = Faults(breaks=3, cuts=1, restarts=1, deaths=1, actors=True, steps=30)
DRAINS = Faults(breaks=3, cuts=1, restarts=2, leaves=1)
KINDS = {
    "quiet": QUIET,
    "broken-links": BROKEN_LINKS,
    "restarts": RESTARTS,
    "deaths": DEATHS,
    "drains": DRAINS,
    "actors": ACTORS,
    "actors-and-deaths": ACTORS_AND_DEATHS,
}


class Run:
    """One seed."""

    def __init__(self, seed: int, faults: Faults, nodes: int = NODES, story: bool = False) -> None:
        self.world = World(seed, story)
        self.network = Network(self.world)
        self.watch = Watch(self.world)
        names = [bytes([97 + index]) for index in range(nodes)]
        self.machines = [
            Machine(
                name,
                self.world,
                self.network,
                self.watch,
                ModelArena(name, index >= faults.leaves),
                actors=faults.actors,
            )
            for index, name in enumerate(names)
        ]
        for machine in self.machines:
            machine.others = [other for other in self.machines if other is not machine]
        self.faults = faults

    def play(self, work_us: int = 120_000) -> Watch:
        """All of it; what went wrong is in the watch."""
        world, random = self.world, self.world.random
        for machine in self.machines:
            for other in machine.others:
                self.network.want_link(machine.name, other.name)
            for _ in range(self.faults.steps):
                world.after(random.randrange(work_us), machine.step)
        self._plan_faults(work_us)
        world.run(work_us)
        self.network.heal_all()
        try:
            world.run_out(REST_US)
            self._check_waits()
            self._check_leaves()
            for machine in self.machines:
                machine.held.clear()
                machine.waits.clear()
            world.run_out(REST_US)
        except Unending as error:
            self.watch.problem(str(error))
        self._check_empty()
        return self.watch

    def _plan_faults(self, work_us: int) -> None:
        world, random = self.world, self.world.random

        def at_random(count: int, fault: Callable[[], None]) -> None:
            for _ in range(random.randint(0, count)):
                world.after(random.randrange(work_us), fault)

        at_random(self.faults.breaks, self._break)
        at_random(self.faults.cuts, self._cut)
        at_random(self.faults.restarts, self._restart)
        at_random(self.faults.deaths, self._kill)
        for machine in self.machines[: self.faults.leaves]:
            world.after(random.randrange(work_us), machine.drain)

    def _pair(self) -> tuple[bytes, bytes]:
        one, other = self.world.random.sample(self.machines, 2)
        return one.name, other.name

    def _break(self) -> None:
        one, other = self._pair()
        self.world.tell(lambda: f"link of {one!r} and {other!r} breaks")
        self.network.break_link(one, other)

    def _cut(self) -> None:
        one, other = self._pair()
        random = self.world.random
        both = random.random() < 0.5
        self.world.tell(lambda: f"nothing gets from {one!r} to {other!r}{' nor back' if both else ''}")
        self.network.cut(one, other)
        if both:
            self.network.cut(other, one)
        length_us = random.randrange(60_000)
        if random.random() < 0.5:
            self.world.after(length_us // 2, lambda: self.network.break_link(one, other))
        self.world.after(length_us, lambda: self.network.heal(one, other))
        self.world.after(length_us, lambda: self.network.heal(other, one))

    def _restart(self) -> None:
        machine = self.world.random.choice(self.machines)
        if machine.alive:
            machine.restart_manager()

    def _kill(self) -> None:
        victim = self.world.random.choice(self.machines)
        if not victim.alive:
            return
        self.watch.deaths += 1
        victim.kill()
        for other in victim.others:
            self.world.after(self.world.random.randrange(1_000, 60_000), partial(other.on_death, victim.name))

    def _check_waits(self) -> None:
        if not any(machine.alive for machine in self.machines):
            return
        for machine in self.machines:
            for oid in machine.waits:
                self.watch.problem(f"{machine.name!r} waits for {oid} for ever")

    def _check_leaves(self) -> None:
        for machine in self.machines[: self.faults.leaves]:
            if machine.alive:
                self.watch.problem(f"{machine.name!r} was drained, and is still there")
        if not self.watch.deaths:
            for task, times in self.watch.executions.items():
                if times > 1:
                    self.watch.problem(f"{task!r} has run {times} times, and no node has died")

    def _check_empty(self) -> None:
        for machine in self.machines:
            if machine.alive and not machine.arena.is_empty():
                self.watch.problem(
                    f"{machine.name!r} keeps what nobody can reach:\n{machine.arena.contents()}"
                )
        for machine in self.machines:
            exchange = machine.exchange
            kept = (
                exchange.wanted._asked,
                exchange.loans._borrowed,
                exchange.loans._borrowing,
                exchange.wanted._again,
            )
            if machine.alive and (any(kept) or exchange.given.spread.keys):
                self.watch.problem(
                    f"{machine.name!r}: its exchange remembers {kept}, {exchange.given.spread.keys}"
                )


def play(seed: int, faults: Faults, nodes: int = NODES) -> list[str]:
    """What went wrong with this seed."""
    return Run(seed, faults, nodes).play().problems


def story(seed: int, faults: Faults, nodes: int = NODES) -> str:
    """The same run again, told."""
    run = Run(seed, faults, nodes, story=True)
    problems = run.play().problems
    return "\n".join([*run.world.story, *problems])
