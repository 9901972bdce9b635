"""Actors that another arena's calls go to, by hand."""

import struct

import pytest

from ray import _kernel
from tests.core.nodes import RAW, Host, Network, Node, decoded, encoded


@pytest.fixture
def network() -> Network:
    return Network(3)


def given(owner: Node, other: Node, actor: _kernel.ObjectID) -> _kernel.ObjectID:
    """The other node's handle: it comes inside a value."""
    box = owner.driver.put(encoded(0), RAW, [actor])
    name = (box.binary(), other.peer(owner))
    boxed = other.driver.foreign(name)
    owner.manager.lend(owner.peer(other), [owner.manager.foreign((box.binary(), 0))])
    other.manager.note(other.peer(owner), [name])
    other.network.send(other, owner, "want", box.binary())
    owner.network.settle(work=False)
    assert other.driver.is_ready(boxed)
    return other.driver.foreign((actor.binary(), 0))


def made(owner: Node, interval: int = 0) -> _kernel.ObjectID:
    """Its creation waits in the queue."""
    return owner.create(owner.driver.put(encoded(1), RAW), interval=interval)


def served(node: Node) -> tuple[_kernel.ObjectID, Host]:
    return made(node), Host(node)


def failure(node: Node, oid: _kernel.ObjectID) -> int:
    fmt, data = node.driver.get(oid, 0)
    assert fmt == _kernel.FORMAT_SYSTEM
    return int(struct.unpack_from("<i", bytes(data))[0])


def all_is_gone(network: Network, *hosts: Host) -> None:
    network.until(lambda: not any(host.is_alive() for host in hosts))
    network.settle()
    for node in network.all:
        node.check()
        counts = node.counts()
        counts["processes"] -= len(node.manager.peers()) + len(node.manager.guests())
        assert counts == node.baseline
        stats = node.manager.stats()
        assert stats["actors"] == 0
        assert stats["lanes"] == 0


def first(results: "_kernel.ObjectID | list[_kernel.ObjectID] | None") -> _kernel.ObjectID:
    """Of a call."""
    oid = results[0] if isinstance(results, list) else results
    assert oid is not None
    return oid


def calls_are_done_in_order(
    network: Network, host: Host, handles: dict[Node, _kernel.ObjectID], most_returns: int = 1
) -> None:
    """Ten of each node."""
    results = {
        node: [first(node.call(handle, 100 * n + i, num_returns=i % most_returns + 1)) for i in range(10)]
        for n, (node, handle) in enumerate(handles.items())
    }
    network.settle(work=False)
    for node in network.all:
        node.check()
    network.until_ready(*((node, oid) for node, oids in results.items() for oid in oids))
    for n, (node, oids) in enumerate(results.items()):
        told = [host.told[decoded(node.driver.get(oid, 0)[1]) - 1] for oid in oids]
        assert told == [100 * n + i for i in range(10)]


def test_calls_go_in_order_and_results_come_back(network: Network) -> None:
    a, b, c = network.all
    actor, host = served(a)
    handles = {b: given(a, b, actor), c: given(a, c, actor)}
    calls_are_done_in_order(network, host, handles)
    del handles
    network.settle()
    assert a.manager.stats()["actors"] == 1
    del actor
    all_is_gone(network, host)


def test_an_actor_ends_when_the_last_handle_elsewhere_goes(network: Network) -> None:
    a, b, _ = network.all
    actor, host = served(a)
    handle = given(a, b, actor)
    del actor
    network.settle()
    assert a.manager.stats()["actors"] == 1
    last = b.call(handle, 5)
    del handle
    network.until_ready((b, last))
    assert decoded(b.driver.get(last, 0)[1]) == 1
    del last
    all_is_gone(network, host)


def test_calls_that_were_lost_on_the_way_come_once_and_in_order(network: Network) -> None:
    a, b, _ = network.all
    actor, host = served(a)
    handle = given(a, b, actor)
    oids = []
    for i in range(60):
        oids.append(b.call(handle, i, num_returns=2 if i % 7 == 3 else 1))
        network.step()
        if i % 9 == 5:
            network.lose(a, b)
        for node in network.all:
            node.check()
    network.until(lambda: len(host.told) == 60)
    network.settle()
    assert host.told == list(range(60))
    for i, oid in enumerate(oids):
        first = oid[0] if isinstance(oid, list) else oid
        assert first is not None
        assert decoded(b.driver.get(first, 0)[1]) == i + 1
    del oids, oid, first, handle, actor
    all_is_gone(network, host)


def test_an_argument_that_is_not_ready_holds_back_its_own_caller_only(network: Network) -> None:
    a, b, c = network.all
    actor, host = served(a)
    handles = given(a, b, actor), given(a, c, actor)
    argument = b.driver.reserve()
    held = [b.call(handles[0], 1, [argument]), b.call(handles[0], 2)]
    free = c.call(handles[1], 3)
    network.until_ready((c, free))
    b.driver.seal(argument, encoded(10), RAW)
    network.until_ready((b, held[1]))
    assert host.told == [3, 11, 2]
    assert [decoded(b.driver.get(oid, 0)[1]) for oid in held] == [2, 3]
    assert decoded(c.driver.get(free, 0)[1]) == 1
    del held, free, argument, handles, actor
    all_is_gone(network, host)


def test_killed_from_elsewhere(network: Network) -> None:
    a, b, _ = network.all
    actor, host = served(a)
    handle = given(a, b, actor)
    before = b.call(handle, 1)
    assert b.driver.kill_actor(handle) == 0
    after = b.call(handle, 2)
    network.lose(a, b)
    network.until_ready((b, before), (b, after))
    b.check()
    assert failure(b, before) == failure(b, after) == _kernel.ACTOR_KILLED
    with pytest.raises(_kernel.KernelError):
        b.driver.get(handle, 0)
    del before, after, handle, actor
    all_is_gone(network, host)


def test_the_node_of_an_actor_dies(network: Network) -> None:
    a, b, _ = network.all
    actor, host = served(a)
    handle = given(a, b, actor)
    argument = b.driver.reserve()
    oids = [b.call(handle, 1), b.call(handle, 2, [argument]), b.call(handle, 3)]
    network.until(lambda: host.told == [1])
    b.driver.kill_actor(handle)
    network.die(a)
    b.check()
    oids.append(b.call(handle, 4))
    assert [failure(b, oid) for oid in oids[1:]] == [
        _kernel.ACTOR_NODE_DIED
    ] * 3  # of the first the result may be here
    del oids, handle, argument
    all_is_gone(network)
    a.manager.shut()
    host.join()


def test_the_node_of_a_caller_dies(network: Network) -> None:
    a, b, c = network.all
    actor, host = served(a)
    handles = given(a, b, actor), given(a, c, actor)
    oids = [b.call(handles[0], 1), b.call(handles[0], 2)]
    network.until(lambda: bool(host.told))
    network.die(b)
    a.check()
    mine = c.call(handles[1], 3)
    network.until_ready((c, mine))
    assert host.told[-1] == 3
    del oids, handles, mine, actor
    all_is_gone(network, host)


def placed(owner: Node, host: Node, interval: int = 0) -> tuple[_kernel.ObjectID, Host]:
    """An actor of the one that the other serves."""
    actor = made(owner, interval)
    assert owner.offload(host) == 1
    owner.network.until(lambda: host.manager.stats()["ready_tasks"] == 1)
    serving = Host(host, interval)
    owner.network.settle(work=False)
    return actor, serving


def test_an_actor_is_placed_on_another_node(network: Network) -> None:
    a, b, c = network.all
    actor, host = placed(a, b)
    handles = {a: actor, b: given(a, b, actor), c: given(a, c, actor)}
    calls_are_done_in_order(network, host, handles, 2)
    del handles
    network.settle(work=False)
    assert host.is_alive()
    del actor
    all_is_gone(network, host)


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("interval", [0, 3])
def test_an_actor_is_placed_where_calls_of_it_are_on_their_way(
    network: Network, killed: bool, interval: int
) -> None:
    """They go around by its owner, back to where their results belong; later ones stay behind them."""
    a, b, c = network.all
    actor = made(a, interval)
    middle = given(a, c, actor)
    handle = given(c, b, middle)
    calls = [b.call(handle, number, num_returns=number % 3) for number in range(7)]
    network.step()
    other = a.call(actor, 7)
    assert a.offload(b) == 1
    if killed:
        a.driver.kill_actor(actor)
    network.settle(work=False)
    for node in network.all:
        node.check()
    firsts = [each[0] if isinstance(each, list) else each for each in calls]
    if killed:
        network.until_ready((a, other), *((b, each) for each in firsts if each is not None))
        assert failure(a, other) == failure(b, firsts[1]) == _kernel.ACTOR_KILLED
        return
    host = Host(b, interval)
    network.step()
    calls += [b.call(handle, number) for number in range(8, 12)]
    network.until_ready((b, calls[-1]), (a, other))
    calls.append(b.call(handle, 12))
    network.until_ready((b, calls[-1]))
    assert [number for number in host.told if number != 7] == [*range(7), *range(8, 13)]
    firsts = [each[0] if isinstance(each, list) else each for each in calls]
    for number, each in zip([*range(7), *range(8, 13)], firsts, strict=True):
        assert each is None or host.told[decoded(b.driver.get(each, 0)[1]) - 1] == number
    b.borrow()
    del calls, firsts, each, other, actor, middle, handle, node
    all_is_gone(network, host)


@pytest.mark.parametrize("interval", [0, 3])
def test_calls_that_go_around_over_links_that_break(network: Network, interval: int) -> None:
    a, b, _ = network.all
    actor = made(a, interval)
    handle = given(a, b, actor)
    oids = [b.call(handle, number) for number in range(5)]
    network.step()
    a.offload(b)
    host = Host(b, interval)
    for number in range(5, 60):
        oids.append(b.call(handle, number, num_returns=2 if number % 7 == 3 else 1))
        network.step()
        if number % 5 == 1:
            network.lose(a, b)
        for node in network.all:
            node.check()
    network.until(lambda: len(host.told) == 60)
    network.settle(work=False)
    assert host.told == list(range(60))
    firsts = [each[0] if isinstance(each, list) else each for each in oids]
    assert [decoded(b.driver.get(each, 0)[1]) for each in firsts] == list(range(1, 61))
    del oids, firsts, handle, actor, node
    all_is_gone(network, host)


def test_a_placement_that_was_lost_on_the_way(network: Network) -> None:
    a, b, _ = network.all
    actor = made(a)
    calls = [a.call(actor, number) for number in range(5)]
    a.offload(b)
    a.tell_news()
    network.lose(a, b)
    network.settle(work=False)
    a.check()
    assert b.manager.stats()["ready_tasks"] == 0
    assert a.manager.stats()["ready_tasks"] == 1
    a.offload(b)
    a.tell_news()
    network.until(lambda: b.manager.stats()["ready_tasks"] == 1)
    network.lose(a, b)
    host = Host(b)
    network.until_ready((a, calls[-1]))
    assert host.told == list(range(5))
    del calls, actor
    all_is_gone(network, host)


def test_a_placed_actor_is_killed_and_its_node_dies(network: Network) -> None:
    a, b, c = network.all
    actor, host = placed(a, b)
    handle = given(a, c, actor)
    c.driver.kill_actor(handle)
    call = c.call(handle, 1)
    network.until_ready((c, call))
    assert failure(c, call) == _kernel.ACTOR_KILLED
    del actor, handle, call
    all_is_gone(network, host)
    actor, host = placed(a, b)
    handle = given(a, c, actor)
    calls = [c.call(handle, 1), a.call(actor, 2)]
    network.settle(work=False)
    network.die(b)
    a.check()
    calls += [c.call(handle, 3), a.call(actor, 4)]
    network.until_ready((c, calls[2]))
    assert failure(c, calls[2]) == failure(a, calls[3]) == _kernel.ACTOR_NODE_DIED
    del actor, handle, calls
    all_is_gone(network)
    b.manager.shut()
    host.join()


def test_a_kill_where_the_actor_is_served_goes_before_the_calls_after_it(network: Network) -> None:
    """Those take no way around by the owner."""
    a, b, _ = network.all
    actor, host = placed(a, b)
    handle = given(a, b, actor)
    b.driver.kill_actor(handle)
    call = b.call(handle, 1)  # nothing has been said to the owner yet
    assert failure(b, call) == _kernel.ACTOR_KILLED
    network.settle(work=False)
    mine = a.call(actor, 2)
    network.until_ready((a, mine))
    assert failure(a, mine) == _kernel.ACTOR_KILLED
    assert host.told == []
    del actor, handle, call, mine
    all_is_gone(network, host)


def test_the_owner_of_a_placed_actor_dies(network: Network) -> None:
    a, b, c = network.all
    actor, host = placed(a, b)
    handle = given(a, c, actor)
    mine = a.call(actor, 1)
    network.until_ready((a, mine))
    network.die(a)
    b.check()
    assert failure(c, c.call(handle, 1)) == _kernel.ACTOR_NODE_DIED
    del handle, actor, mine
    all_is_gone(network, host)
