"""Actors with checkpoints that another arena serves, which dies: they go on at their owner, by hand."""

import random

import pytest

from ray import _kernel
from tests.core.nodes import LEAVE, Host, Network, Node, decoded, encoded
from tests.core.test_actors_elsewhere import all_is_gone, failure, given, placed

INTERVAL = 4


@pytest.fixture
def network() -> Network:
    return Network(3)


def ended(node: Node, host: Host) -> None:
    """What is left of a node that has died."""
    node.manager.shut()
    host.join()


def positions(node: Node, calls: list[_kernel.ObjectID]) -> list[int]:
    return [decoded(node.driver.get(call, 0)[1]) for call in calls]


def asked(node: Node, actor: _kernel.ObjectID, number: int) -> _kernel.ObjectID:
    call = node.call(actor, number)
    assert isinstance(call, _kernel.ObjectID)
    return call


class Callers:
    """Nodes that call one actor; the numbers say in which order."""

    def __init__(self, handles: dict[Node, _kernel.ObjectID]) -> None:
        self.handles = handles
        self.calls: dict[Node, list[_kernel.ObjectID]] = {node: [] for node in handles}
        self.numbers: dict[Node, list[int]] = {node: [] for node in handles}

    @property
    def count(self) -> int:
        return sum(len(numbers) for numbers in self.numbers.values())

    def call(self, node: Node) -> None:
        self.numbers[node].append(self.count)
        self.calls[node].append(asked(node, self.handles[node], self.numbers[node][-1]))

    def until_ready(self, network: Network, *nodes: Node) -> None:
        network.until_ready(*((node, call) for node in nodes or self.calls for call in self.calls[node]))

    def places_in(self, host: Host, node: Node) -> list[int]:
        """Which numbers stand where that node's calls say that they do."""
        return [host.told[place - 1] for place in positions(node, self.calls[node])]

    def clear(self) -> None:
        self.handles.clear()
        self.calls.clear()


@pytest.mark.parametrize("count", [0, 1, INTERVAL, INTERVAL + 2, 5 * INTERVAL - 1])
def test_it_goes_on_at_its_owner(network: Network, count: int) -> None:
    a, b, c = network.all
    actor, host = placed(a, b, INTERVAL)
    handle = given(a, c, actor)
    calls = {a: [], c: []}
    for number in range(count):
        caller, name = ((a, actor), (c, handle))[number % 2]
        calls[caller].append(asked(caller, name, number))
        network.until_ready((caller, calls[caller][-1]))
    network.settle(work=False)
    a.check()
    saved = count - count % INTERVAL
    assert a.manager.stats()["tasks"] == 1 + count - saved  # the creation, and what no checkpoint covers
    network.die(b)
    a.check()
    again = Host(a, INTERVAL)
    calls[a].append(asked(a, actor, 100))
    calls[c].append(asked(c, handle, 101))
    network.until_ready((a, calls[a][-1]), (c, calls[c][-1]))
    assert again.began_with == list(range(saved))
    assert again.told[:count] == list(range(count))
    assert sorted(again.told[count:]) == [100, 101]
    for node, name in ((a, 100), (c, 101)):
        told = positions(node, calls[node])
        assert told[:-1] == sorted(told[:-1])
        assert again.told[told[-1] - 1] == name
    del actor, handle, calls
    all_is_gone(network, again)
    ended(b, host)


def test_it_goes_on_at_its_owner_in_the_middle_of_calls(network: Network) -> None:
    """Whatever had got how far: each call has its own place in one order, and the last state has all."""
    rng = random.Random(5)
    a, b, c = network.all
    actor, host = placed(a, b, INTERVAL)
    callers = Callers({a: actor, c: given(a, c, actor)})
    there = given(a, b, actor)
    del actor
    lost = []  # calls of the node that dies
    for _ in range(60):
        for _ in range(rng.randrange(5)):
            callers.call(rng.choice((a, c)))
        lost.append(asked(b, there, 1_000 + len(lost)))
        network.step()
        if rng.random() < 0.1:
            network.lose(a, b)
        if rng.random() < 0.1:
            network.lose(a, c)
        a.check()
    seen = [decoded(b.driver.get(each, 0)[1]) for each in lost if b.driver.is_ready(each)]
    known = {
        node: [call for call in calls if node.driver.is_ready(call)] for node, calls in callers.calls.items()
    }
    before = {node: positions(node, known[node]) for node in known}
    network.die(b)
    a.check()
    again = Host(a, INTERVAL)
    for _ in range(20):
        callers.call(rng.choice((a, c)))
    callers.until_ready(network)
    for node in known:
        assert positions(node, known[node]) == before[node]
        assert callers.places_in(again, node) == callers.numbers[node]
    assert sorted(each for each in again.told if each < 1_000) == list(range(callers.count))
    # What a caller there has seen the result of was known here, and is in the state.
    assert [again.told[place - 1] for place in seen] == [1_000 + number for number in range(len(seen))]
    known.clear()
    callers.clear()
    del node, there, lost
    all_is_gone(network, again)
    ended(b, host)


def test_a_checkpoint_is_told_of_behind_the_results_that_it_covers(network: Network) -> None:
    """Also behind a link that broke; and they in the order of execution."""
    a, b, _ = network.all
    actor, host = placed(a, b, INTERVAL)
    a.tell_news()
    calls = [asked(a, actor, number) for number in range(2 * INTERVAL + 1)]
    a.tell_news()
    for _ in range(8):
        a.tell_news()
        while network.deliver(a, b):
            pass
    network.until(lambda: len(host.told) == 2 * INTERVAL + 1)
    b.tell_news()
    network.lose(a, b)
    seen: list[str] = []
    turns: list[int] = []
    while True:
        moved = b.tell_news()
        link = network.links.get((b.node_id, a.node_id))
        if link:
            kind, message = link[0]
            seen.append(kind)
            if kind == "result":
                assert isinstance(message, tuple)
                turns.append(message[-1])
            network.deliver(b, a)
        elif not moved and not network.deliver(a, b):
            break
        a.check()
    assert [turn for turn in turns if turn] == list(range(1, len(calls) + 1))  # the creation has none
    assert "checkpoint" in seen
    assert "result" not in seen[seen.index("checkpoint") :]
    network.die(b)
    again = Host(a, INTERVAL)
    last = asked(a, actor, 100)
    network.until_ready((a, last))
    assert again.told == [*range(len(calls)), 100]
    assert again.began_with == list(range(2 * INTERVAL))
    assert positions(a, calls) == list(range(1, len(calls) + 1))
    del actor, calls, last
    all_is_gone(network, again)
    ended(b, host)


def test_it_goes_on_though_its_first_process_had_died(network: Network) -> None:
    a, b, _ = network.all
    actor, host = placed(a, b, INTERVAL)
    first = [asked(a, actor, number) for number in range(INTERVAL + 1)]
    network.until_ready(*((a, call) for call in first))
    network.settle(work=False)
    network.die(b)
    second = Host(a, INTERVAL)
    calls = [asked(a, actor, 10 + number) for number in range(INTERVAL)]
    network.until_ready(*((a, call) for call in calls))
    assert second.told == [*range(INTERVAL + 1), *range(10, 10 + INTERVAL)]
    a.driver.kill_actor(actor)
    late = asked(a, actor, 1)
    network.until_ready((a, late))
    assert failure(a, late) == _kernel.ACTOR_KILLED
    del actor, first, calls, late
    all_is_gone(network, second)
    ended(b, host)


@pytest.mark.parametrize("how", ["killed", "dropped"])
def test_one_that_does_not_start_again(network: Network, how: str) -> None:
    a, b, _ = network.all
    actor, host = placed(a, b, INTERVAL)
    calls = [asked(a, actor, number) for number in range(INTERVAL + 1)]
    network.until_ready(*((a, call) for call in calls))
    network.settle(work=False)
    if how == "killed":
        a.driver.kill_actor(actor)
    if how == "dropped":
        del actor
        a.let_go()
    network.die(b)
    a.check()
    if how == "killed":
        late = asked(a, actor, 1)
        network.until_ready((a, late))
        assert failure(a, late) == _kernel.ACTOR_NODE_DIED
        del late, actor
    assert positions(a, calls) == list(range(1, INTERVAL + 2))
    del calls
    all_is_gone(network)
    ended(b, host)


def serving(owner: Node, node: Node) -> Host:
    """The owner's actor, which waits there, goes to that node."""
    assert owner.offload(node) == 1
    owner.network.until(lambda: node.manager.stats()["ready_tasks"] == 1)
    return Host(node, INTERVAL)


@pytest.mark.parametrize("loses", [False, True])
@pytest.mark.parametrize("count", [0, 2, INTERVAL, 2 * INTERVAL + 3])
def test_it_goes_on_at_a_third_node_and_then_at_a_fourth(count: int, loses: bool) -> None:
    network = Network(4)
    a, b, c, d = network.all
    actor, first = placed(a, b, INTERVAL)
    callers = Callers({a: actor, c: given(a, c, actor)})
    del actor

    def call(many: int) -> None:
        for _ in range(many):
            for node in callers.handles:
                callers.call(node)

    call(count)
    callers.until_ready(network)
    network.settle(work=False)
    call(2)
    network.step()
    network.die(b)
    a.check()
    call(2)
    if loses:
        assert a.offload(c) == 1
        for _ in range(3):
            a.tell_news()
            network.deliver(a, c)
        network.lose(a, c)
        a.check()
        network.settle(work=False)
    else:
        assert a.offload(c) == 1
    if c.manager.stats()["ready_tasks"] == 0:
        a.offload(c)
        network.until(lambda: c.manager.stats()["ready_tasks"] == 1)
    second = Host(c, INTERVAL)
    call(3)
    for node in (a, c):
        node.check()
    callers.until_ready(network)
    call(1)
    network.step()
    a.check()
    before = positions(a, callers.calls[a][:-1])
    callers.handles.pop(c)
    theirs = callers.numbers[c][:-1], positions(c, callers.calls[c][:-1])
    network.die(c)
    third = serving(a, d)
    call(4)
    callers.until_ready(network, a)
    assert positions(a, callers.calls[a][: len(before)]) == before
    assert callers.places_in(third, a) == callers.numbers[a]
    assert [third.told[place - 1] for place in theirs[1]] == theirs[0]
    assert len(set(third.told)) == len(third.told)
    callers.clear()
    all_is_gone(network, third)
    ended(b, first)
    ended(c, second)


@pytest.mark.parametrize("loses", [False, True])
@pytest.mark.parametrize("count", [0, 2, INTERVAL, 2 * INTERVAL + 3])
def test_it_leaves_a_node_and_nothing_is_run_twice(network: Network, count: int, loses: bool) -> None:
    a, b, c = network.all
    actor, first = placed(a, b, INTERVAL)
    handle = given(a, c, actor)
    calls = [asked(a, actor, number) for number in range(count)]
    network.until_ready(*((a, each) for each in calls))
    theirs = [asked(c, handle, 1_000 + number) for number in range(5)]
    calls += [asked(a, actor, number) for number in range(count, count + 5)]
    for _ in range(2):
        network.step()
    (served,) = b.manager.served_actors()
    b.manager.call(served, encoded(LEAVE), None, None, 0)
    del served
    calls += [asked(a, actor, number) for number in range(count + 5, count + 10)]
    first.join()
    if loses:
        b.tell_news()
        network.lose(a, b)
    network.settle(work=False)
    assert b.manager.served_actors() == []
    for node in network.all:
        node.check()
    second = serving(a, c)
    network.until_ready(*((a, each) for each in calls), *((c, each) for each in theirs))
    assert second.began_with == first.told
    assert sorted(second.told) == [*range(count + 10), *range(1_000, 1_005)]
    assert [second.told[place - 1] for place in positions(a, calls)] == list(range(count + 10))
    assert [second.told[place - 1] for place in positions(c, theirs)] == list(range(1_000, 1_005))
    del actor, handle, calls, theirs, node
    all_is_gone(network, second)
