"""Three nodes, and in random order: tasks, values, messages, broken links, and what is dropped meanwhile."""

import random
import time

from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ray import _kernel
from tests.core.nodes import RAW, Network, Node, decoded, encoded

WHICH = st.integers(0, 2)
PICK = st.integers(0, 1 << 30)
SIZES = st.sampled_from([16, 1000, 100_000])


class Model(RuleBasedStateMachine):
    """Every id that a driver holds has a number that its value must turn out to be."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network(3)
        self.functions = [node.driver.put(encoded(1), RAW) for node in self.network.all]
        self.held: list[list[tuple[_kernel.ObjectID, int]]] = [[], [], []]
        self.made = 100

    def _number(self) -> int:
        self.made += 1
        return self.made

    def _some(self, which: int, pick: int, most: int) -> list[tuple[_kernel.ObjectID, int]]:
        held = self.held[which]
        return random.Random(pick).sample(held, min(most, len(held)))

    @rule(which=WHICH, size=SIZES, pick=PICK)
    def put(self, which: int, size: int, pick: int) -> None:
        number = self._number()
        nested = [oid for oid, _ in self._some(which, pick, 2)]
        oid = self.network.all[which].driver.put(encoded(number, size), RAW, nested)
        self.held[which].append((oid, number))

    @rule(which=WHICH, size=SIZES, pick=PICK, nested=PICK, returns=st.sampled_from([0, 1, 1, 1, 2, 14]))
    def submit(self, which: int, size: int, pick: int, nested: int, returns: int) -> None:
        number = self._number()
        deps = self._some(which, pick, 2)
        contained = [oid for oid, _ in self._some(which, nested, 2)]
        size = 16 if returns > 2 else size
        ids = self.network.all[which].submit(
            self.functions[which], number, [oid for oid, _ in deps], contained, num_returns=returns, size=size
        )
        total = number + sum(each for _, each in deps)
        self.held[which] += [(oid, total + i) for i, oid in enumerate(ids)]

    @rule(which=WHICH, other=WHICH, most=st.integers(1, 4))
    def offload(self, which: int, other: int, most: int) -> None:
        if which != other:
            self.network.all[which].offload(self.network.all[other], most)

    @rule(which=WHICH)
    def work(self, which: int) -> None:
        self.network.all[which].work()

    @rule(which=WHICH)
    def tell_news(self, which: int) -> None:
        self.network.all[which].tell_news()

    @rule(which=WHICH)
    def borrow(self, which: int) -> None:
        self.network.all[which].borrow()

    @rule(which=WHICH, other=WHICH, count=st.integers(1, 5))
    def deliver(self, which: int, other: int, count: int) -> None:
        for _ in range(count):
            self.network.deliver(self.network.all[which], self.network.all[other])

    @rule(which=WHICH, other=WHICH)
    def lose(self, which: int, other: int) -> None:
        """A lost link also takes what was wanted: who waits asks again."""
        if which != other:
            self.network.lose(self.network.all[which], self.network.all[other])

    @rule(which=WHICH, other=WHICH)
    def take_back(self, which: int, other: int) -> None:
        """The answer comes at once: of what is dropped no message on its way says anything else."""
        a, b = self.network.all[which], self.network.all[other]
        if which == other:
            return
        peer = b.peer(a)
        dropped = b.manager.drop_received(peer, b.manager.received(peer))
        assert a.manager.recall(a.peer(b), dropped) == len(dropped)

    @rule(which=WHICH, pick=PICK)
    def ask(self, which: int, pick: int) -> None:
        """Whoever asks for a value makes it wanted; if it is there, it is right."""
        for oid, number in self._some(which, pick, 3):
            self._look(self.network.all[which], oid, number)

    def _look(self, node: Node, oid: _kernel.ObjectID, number: int) -> bool:
        try:
            fmt, data = node.driver.get(oid, 0)
        except _kernel.WaitTimeout:
            return False
        assert (fmt, decoded(data)) == (RAW, number)
        return True

    def _missing(self) -> list[int]:
        nodes = zip(self.network.all, self.held, strict=True)
        return [number for node, held in nodes for oid, number in held if not self._look(node, oid, number)]

    @precondition(lambda self: any(self.held))
    @rule(which=WHICH, pick=PICK)
    def drop(self, which: int, pick: int) -> None:
        for each in self._some(which, pick, 3):
            self.held[which].remove(each)
        self.network.all[which].let_go()

    @invariant()
    def whole(self) -> None:
        for node in self.network.all:
            node.check()

    def teardown(self) -> None:
        """Every value comes, and when all is dropped all is freed, everywhere."""
        for a, b in ((0, 1), (0, 2), (1, 2)):
            self.network.lose(self.network.all[a], self.network.all[b])
        self.network.settle()
        for _ in range(2):  # what is large comes when it has been asked for
            missing = self._missing()
            self.network.settle()
        assert not missing
        self.held, self.functions = [], []
        self.network.settle()
        for node in self.network.all:
            node.check()
            counts = node.counts()
            counts["processes"] -= len(node.manager.peers()) + len(node.manager.guests())
            assert counts == node.baseline


def test_three_nodes_against_a_model() -> None:
    start = time.time_ns() % (1 << 32)
    print(f"seed {start}")
    limits = settings(
        max_examples=25, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(seed(start)(Model), settings=limits)  # type: ignore[no-untyped-call]
