"""A node manager's event loop in virtual time: one thing after the other, each for what it costs.

A *turn* is what lies there when the loop comes round; what it sends leaves at its end, a frame for each link.
"""

import heapq
from collections import Counter
from collections.abc import Callable
from typing import Any

from benchmarks.scale.costs import Costs, Step, StepName
from tests.simulator.world import World

HOP_US = 35  # from one process to another: half a token's round trip between cores (LIMITS: 60 to 77)
# As in kernel/numbers.hpp: how long a loop looks before it sleeps, and when that pays.
EARS_SPIN_US = 150
WOKEN_US = 125
SPINS_IN_VAIN, SPINS_ANYWAY = 4, 16


class Cores:
    """What node managers run on: cores of their own, or the few of one machine."""

    def __init__(self, world: World, count: int) -> None:
        self._world = world
        self._free_us = [0] * count

    def take(self, cost_us: float) -> int:
        """How long until so much work is done, begun as soon as one is free."""
        now = self._world.now_us
        start = max(now, heapq.heappop(self._free_us))
        end = start + max(1, round(cost_us))
        heapq.heappush(self._free_us, end)
        return end - now


class Patience:
    """Of a loop: whether it looks before it sleeps; as `Patience` in kernel/wait.hpp."""

    def __init__(self) -> None:
        self._vain = 0

    def waited(self, for_us: int) -> int:
        """How long of that it looked."""
        looks = self._vain < SPINS_IN_VAIN or self._vain % SPINS_ANYWAY == 0
        self._vain = 0 if for_us < EARS_SPIN_US + WOKEN_US else self._vain + 1
        return min(for_us, EARS_SPIN_US) if looks else 0


class Traffic:
    """What went out of one node manager."""

    def __init__(self) -> None:
        self.messages = 0
        self.frames = 0
        self.frame_bytes = 0
        self.placements = 0
        self.cpu_us = 0.0
        self.kinds: Counter[str] = Counter()

    def copy(self) -> dict[str, float]:
        found = dict(vars(self))
        found.update({f"sent.{kind}": count for kind, count in found.pop("kinds").items()})
        return found


class Wires:
    """All links of a run: always up between two that live, a hop away."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ends: dict[bytes, Loop] = {}
        self.living: set[bytes] = set()
        self.silent: set[bytes] = set()  # nodes whose machines do not answer any more

    def carry(self, source: bytes, target: bytes, messages: list[Any], size: int) -> None:
        def arrive() -> None:
            if target in self.ends and source in self.ends:
                self.ends[target].arrived(source, messages, size)

        self.world.after(HOP_US, arrive)


class Loop:
    """One node manager's. Subclasses say what a message leads to, and what it costs."""

    def __init__(self, name: bytes, world: World, wires: Wires, cores: Cores, costs: Costs) -> None:
        self.name = name
        self.world = world
        self.wires = wires
        self.cores = cores
        self.costs = costs
        self.alive = True
        self.traffic = Traffic()
        self.spent_us = 0.0  # in this turn
        self._begun: set[StepName] = set()  # since it waited
        self._waiting: list[Callable[[], None]] = []
        self._runs = False
        self._patience = Patience()
        self._waits_since_us = 0
        self._woken = False  # from a wait, for the next turn
        self._inbox: dict[bytes, tuple[list[Any], list[int]]] = {}
        self._outbox: dict[bytes, tuple[list[Any], list[int]]] = {}
        wires.ends[name] = self

    def now_ms(self) -> int:
        return self.world.now_us // 1_000

    def post(self, step: Callable[[], None]) -> None:
        """The loop comes to it in its turn."""
        if not self.alive:
            return
        self._waiting.append(step)
        if not self._runs:
            self._runs = True
            self._wait_is_over()
            self.world.after(0, self._turn)

    def _wait_is_over(self) -> None:
        """What it looked it has paid for; others had its core meanwhile, if they wanted it."""
        waited_us = self.world.now_us - self._waits_since_us
        looked_us = self._patience.waited(waited_us)
        self.traffic.cpu_us += looked_us
        # After either its memory is cold, as others have run: a turn took 214 µs of CPU after a look that
        # found something, and 316 after a sleep (ten nodes at rest).
        self._woken = True

    def later(self, delay_us: int, step: Callable[[], None]) -> None:
        self.world.after(delay_us, lambda: self.post(step))

    def arrived(self, source: bytes, messages: list[Any], size: int) -> None:
        """A frame. Several of one link that lie there when the loop comes round are one list."""
        if not self.alive:
            return
        there = self._inbox.get(source)
        if there is not None:
            there[0].extend(messages)
            there[1].append(size)
            return
        self._inbox[source] = (list(messages), [size])
        self.post(lambda: self._read(source))

    def queue(self, target: bytes, message: Any, size: int) -> None:
        """Goes out at the end of this turn."""
        self.traffic.kinds[type(message).__name__] += 1
        found = self._outbox.setdefault(target, ([], []))
        found[0].append(message)
        found[1].append(size)

    def on_messages(self, source: bytes, messages: list[Any]) -> None:
        raise NotImplementedError

    def spend(self, name: StepName, times: int = 1) -> None:
        """On so many steps of that name."""
        step: Step = getattr(self.costs, name)
        self.spent_us += step.again * times if name in self._begun else step(times)
        if times:
            self._begun.add(name)

    def _read(self, source: bytes) -> None:
        messages, sizes = self._inbox.pop(source)
        # Read one after the other, if the loop was late; decrypted byte by byte in any case.
        self.spent_us += self.costs.frame_in + sum(sizes) * self.costs.byte_in
        self.on_messages(source, messages)

    def _turn(self) -> None:
        if not self.alive:
            return
        steps, self._waiting = self._waiting, []
        self.spent_us = self.costs.turn if self._woken else 0.0
        if self._woken:
            self._begun.clear()
        self._woken = False
        for step in steps:
            step()
        outbox, self._outbox = self._outbox, {}
        for _, sizes in outbox.values():
            size = sum(sizes) + FRAME_HEAD_BYTES
            self.traffic.messages += len(sizes)
            self.traffic.frames += 1
            self.traffic.frame_bytes += size
            self.spent_us += self.costs.frame_out + size * self.costs.byte_out
        self.traffic.cpu_us += self.spent_us
        self.world.after(self.cores.take(self.spent_us), lambda: self._end(outbox))

    def _end(self, outbox: dict[bytes, tuple[list[Any], list[int]]]) -> None:
        if not self.alive:
            return
        for target, (messages, sizes) in outbox.items():
            self.wires.carry(self.name, target, messages, sum(sizes))
        self._runs = bool(self._waiting)
        self._waits_since_us = self.world.now_us
        if self._runs:
            self._turn()


FRAME_HEAD_BYTES = 9
