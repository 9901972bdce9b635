"""An actor with checkpoints whose servers die, are drained and cut off, at random: decision 28, by seeds.

Real arenas, the real exchange between them, and links that lose what is on them; a failure names its seed.
When the actor's processes take their calls is the machine's matter, so a seed need not show the same twice.
"""

import random

import pytest

from ray import _kernel
from tests.chaos.attack import times
from tests.core.nodes import LEAVE, RAW, Host, decoded, encoded
from tests.node.cluster.test_exchange import LARGE, everything_is_gone, function_of, known_at
from tests.node.cluster.worlds import Member, World

INTERVAL = 3
STEPS = 120
SEEDS = times(full=300, short=25)  # of each kind
KINDS = {
    "kills": ("kill", "cut", "restart"),
    "drains": ("drain", "cut", "restart"),
    "both": ("kill", "drain"),
}


class Run:
    """The first node owns the actor; it and the second call it; whoever lives serves it, but the first."""

    def __init__(self, seed: int, faults: tuple[str, ...]) -> None:
        self.random = random.Random(seed)
        # A small state comes with the message that tells of it.
        self.ballast_bytes = self.random.choice((0, LARGE))
        self.faults = faults
        self.world = World(5)
        self.hosts: list[tuple[Member, Host]] = []  # all that there were; of each node the last one counts
        self.dead: list[Member] = []
        self.leaving: list[Member] = []
        self.owner, self.caller = self.world.members[:2]
        function = function_of(self.owner)
        actor = self.owner.node.create(function, interval=INTERVAL)
        assert self.owner.offload(self.world.members[2]) == 1
        self.world.until(lambda: self._is_served())
        self.handles = {
            self.owner: actor,
            self.caller: known_at(self.caller, self.owner, function, [], [actor]),
        }
        self.calls: dict[Member, list[tuple[int, _kernel.ObjectID]]] = {each: [] for each in self.handles}
        self.seen: dict[int, int] = {}  # by call: its result, as first read

    @property
    def server(self) -> Member | None:
        return next((each for each in self.world.members if each.arena.served_actors()), None)

    def play(self) -> None:
        for _ in range(STEPS):
            self._call()
            if self.random.random() < 0.08:
                getattr(self, f"_{self.random.choice(self.faults)}")()
            for member in self.world.members:
                if self.random.random() < 0.5:
                    member.look()
            for _ in range(self.random.randrange(3)):
                self.world.deliver()
            self._place()
            self._read()
        self._heal()
        self.world.until(self._is_done)
        self._read()

    def _call(self) -> None:
        for caller in self.handles:
            for _ in range(self.random.choice((0, 0, 1, 2))):
                number = sum(map(len, self.calls.values()))
                result = caller.node.call(self.handles[caller], number)
                assert isinstance(result, _kernel.ObjectID)
                self.calls[caller].append((number, result))

    def _read(self) -> None:
        for caller, calls in self.calls.items():
            for number, result in calls:
                if number not in self.seen and caller.node.driver.is_ready(result):
                    fmt, data = caller.node.driver.get(result, 0)
                    assert fmt == RAW, (number, bytes(data))
                    self.seen[number] = decoded(data)

    # --- where it is served ---

    def _place(self) -> None:
        if self.owner.arena.stats()["ready_tasks"]:
            self.owner.offload(self.random.choice(self._takers()))
        self._is_served()

    def _takers(self) -> list[Member]:
        return [each for each in self.world.members[1:] if each not in self.leaving]

    def _is_served(self) -> bool:
        """Starts its process where its creation has come to."""
        for member in self.world.members[1:]:
            if member.arena.stats()["ready_tasks"]:
                host = Host(member.node, INTERVAL, self.ballast_bytes)
                self.hosts.append((member, host))
                self.world.until(lambda: not member.arena.stats()["ready_tasks"])  # noqa: B023
        return self.server is not None

    def _is_done(self) -> bool:
        self._place()
        return all(
            caller.node.driver.is_ready(call) for caller in self.calls for _, call in self.calls[caller]
        )

    # --- faults ---

    def _kill(self) -> None:
        server = self.server
        if server is not None and server is not self.caller and self._takers() != [server]:
            self.world.kill(server)
            self.dead.append(server)

    def _drain(self) -> None:
        server = self.server
        if server is not None and server not in self.leaving and self._takers() != [server]:
            self.leaving.append(server)
            self._leave(server)
            (actor,) = server.arena.served_actors()
            server.arena.call(actor, encoded(LEAVE), None, None, 0)

    def _leave(self, member: Member) -> None:
        member.exchange.tasks.is_leaving = True
        member.exchange.tasks.give_back()

    def _cut(self) -> None:
        """Or mends what is cut."""
        one, other = self.random.sample(self.world.members, 2)
        if frozenset((one.id, other.id)) in self.world.links:
            self.world.cut(one, other)
        else:
            self.world.connect(one, other)

    def _heal(self) -> None:
        for i, one in enumerate(self.world.members):
            for other in self.world.members[:i]:
                if frozenset((one.id, other.id)) not in self.world.links:
                    self.world.connect(one, other)

    def _restart(self) -> None:
        self._heal()
        member = self.random.choice(self.world.members)
        member.restart()
        for dead in self.dead:  # which a head says again
            self.world.kept.append(member.exchange.on_death(dead.id))
        if member in self.leaving:
            self._leave(member)

    # --- and in the end ---

    def check(self) -> None:
        _, host = self.hosts[-1]
        state = list(host.told)
        for calls in self.calls.values():
            places = [self.seen[number] for number, _ in calls]
            assert places == sorted(places)  # in the order of their caller
            assert [state[place - 1] for place in places] == [number for number, _ in calls]
        assert sorted(state) == list(range(len(state)))  # each once
        if "kill" not in self.faults:
            executed = [number for _, each in self.hosts for number in each.told[len(each.began_with) :]]
            assert sorted(executed) == sorted(state)  # nothing has run twice

    def end(self) -> None:
        self.handles.clear()
        self.calls.clear()
        self.world.until(
            lambda: not any(host.is_alive() for member, host in self.hosts if member not in self.dead)
        )
        everything_is_gone(self.world)
        for member in self.dead:
            member.arena.shut()
        for _, host in self.hosts:
            host.join()


@pytest.mark.parametrize("kind", KINDS)
def test_seeds(kind: str) -> None:
    moves = 0
    for seed in range(SEEDS):
        run = Run(seed, KINDS[kind])
        try:
            run.play()
            run.check()
            run.end()
        except BaseException as error:
            error.add_note(f"{kind}, seed {seed}")
            raise
        moves += len(run.hosts) - 1
    assert moves > SEEDS // 2  # that nothing goes wrong says little where nothing happens
