"""Where this node's tasks go: the policy's decisions, done with real arenas."""

from typing import Any

import pytest

from ray import _kernel
from ray.node.cluster.scheduler import Scheduler
from ray.policy.cluster.placement import WORTH_MOVING_BYTES
from ray.wire.messages import NodeState, Resources, View
from tests.core.nodes import CPU, RAW, encoded
from tests.node.cluster.test_exchange import everything_is_gone, number, stored
from tests.node.cluster.worlds import Member, World

CPUS = 2  # of each node


def scheduling(a: Member, b: Member, free: int = CPUS, draining: bool = False) -> list[bool]:
    """The first node's tasks go as its scheduler decides, which has heard that of the second; what it says of
    those that wait for a value there."""
    scheduler = Scheduler(
        a.arena, a.id, a.exchange.tasks, lambda node: True, lambda node: None, lambda infeasible: None
    )
    nodes = [
        NodeState(each.id, "x:1", Resources(CPUS * CPU), Resources(free * CPU), 0, draining=draining)
        for each in (a, b)
    ]
    scheduler.on_view(View(1, nodes, []), 0)
    said: list[bool] = []

    def follow(oid: _kernel.ObjectID, node: bytes, size_bytes: int) -> bool:
        said.append(scheduler.follow(oid, node, size_bytes, 0))
        return said[-1]

    a.exchange.wanted.on_located = follow
    return said


def away(a: Member, b: Member) -> int:
    """Tasks of the first that are at the second, but for the lineage of the value there."""
    return len(a.arena.away(a.exchange.peers.by_node[b.id].number)) - 1


def test_a_task_goes_to_its_large_argument_though_there_is_room_here() -> None:
    world, function, large = stored(2, size=WORTH_MOVING_BYTES)
    a, b = world.members
    said = scheduling(a, b)
    (result,) = a.node.submit(function, 5, [large])
    a.look()
    assert said == [True]
    assert away(a, b) == 1
    world.settle(works=True)
    assert number(a, result) == 3 + 5
    assert a.arena.location(a.arena.foreign((large.binary(), 0))) is not None  # it has not come here
    del large, result, function
    everything_is_gone(world)


@pytest.mark.parametrize(
    ("size", "free", "draining"),
    [
        (WORTH_MOVING_BYTES - 1, CPUS, False),
        (WORTH_MOVING_BYTES, 0, False),
        (WORTH_MOVING_BYTES, CPUS, True),
    ],
    ids=["a small one", "no room there", "a node that leaves"],
)
def test_an_argument_comes_to_its_task(size: int, free: int, draining: bool) -> None:
    world, function, large = stored(2, size=size)
    a, b = world.members
    said = scheduling(a, b, free, draining)
    (result,) = a.node.submit(function, 5, [large])
    a.look()
    assert said == [False]
    assert away(a, b) == 0
    world.settle()
    assert a.node.driver.is_ready(large)
    world.settle(works=True)
    assert number(a, result) == 3 + 5
    del large, result, function
    everything_is_gone(world)


def test_no_more_tasks_go_to_an_argument_than_can_start_there() -> None:
    world, function, large = stored(2, size=WORTH_MOVING_BYTES)
    a, b = world.members
    said = scheduling(a, b)
    results = [a.node.submit(function, each, [large])[0] for each in range(3 * CPUS)]
    a.look()
    assert said == [True]
    assert away(a, b) == CPUS
    world.settle(works=True)
    assert [number(a, result) for result in results] == [3 + each for each in range(3 * CPUS)]
    del large, results, function
    everything_is_gone(world)


@pytest.mark.parametrize(("nodes", "waiting"), [(2, 1), (250, 1), (1_000, 4), (10_000, 10)])
def test_among_many_nodes_each_is_sent_more_at_a_time(nodes: int, waiting: int) -> None:
    """Tasks of 0.1 s: so many wait at each for one CPU."""
    world = World(1)
    (a,) = world.members
    function = a.node.driver.put(encoded(1), RAW)
    held = [a.node.submit(function, 1) for _ in range(CPUS + 50)]
    sent: dict[bytes, int] = {}

    class Counted:
        is_leaving = False

        def send(self, node: bytes, shape: int, count: int) -> list[bytes]:
            sent[node] = count
            return []

    tasks: Any = Counted()
    scheduler = Scheduler(a.arena, a.id, tasks, lambda node: True, lambda node: None, lambda infeasible: None)
    others = [number.to_bytes(20, "big") for number in range(1, nodes)]
    free = {node: Resources(CPU if node == others[0] else 0) for node in others}
    scheduler.on_view(View(1, [NodeState(node, "x:1", Resources(CPU), free[node], 0) for node in others]), 0)
    (shape, *_) = a.arena.queues()[0]
    scheduler.others[others[0]].paces[shape].task_ms = 100.0
    for node in others[1:]:  # as full as they may be
        scheduler.others[node].ours_need = (100 * CPU, 0, 0)
    scheduler.place(0)
    assert sent == {others[0]: 1 + waiting}
    world.settle(works=True)
    del held, function
    everything_is_gone(world)


def test_what_may_never_be_told_of_is_not_counted_on() -> None:
    """Tasks of a driver that has ended, or lost with a link, would be thought to wait there for ever."""
    world = World(2)
    a, b = world.members
    function = a.node.driver.put(encoded(1), RAW)
    held = [a.node.submit(function, 1) for _ in range(CPUS + 20)]
    scheduler = Scheduler(
        a.arena, a.id, a.exchange.tasks, lambda node: True, lambda node: None, lambda infeasible: None
    )
    scheduler.on_view(View(1, [NodeState(b.id, "x:1", Resources(CPU), Resources(CPU), 0)]), 0)
    (shape, *_) = a.arena.queues()[0]
    scheduler.others[b.id].paces[shape].task_ms = 100.0  # one more is to wait there
    assert scheduler.place(0)
    assert len(scheduler.others[b.id].ours) == 2
    scheduler.on_view(View(2, [NodeState(b.id, "x:1", Resources(CPU), Resources(), 0)]), 0)
    assert not scheduler.place(0)
    scheduler.forget_ours(bytes(20))  # another
    assert not scheduler.place(0)
    scheduler.forget_ours(b.id)
    assert not scheduler.has_tasks_away
    assert scheduler.place(0)
    scheduler.forget_ours()
    assert scheduler.place(0)
    world.settle(works=True)
    del held, function
    everything_is_gone(world)
