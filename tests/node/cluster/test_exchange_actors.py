"""What node managers say to each other about actors with checkpoints, with real arenas and links that lose
what is on them."""

import time

import pytest

from ray import _kernel
from tests.core.nodes import LEAVE, RAW, Host, decoded, encoded
from tests.node.cluster.test_exchange import LARGE, everything_is_gone
from tests.node.cluster.worlds import PATIENCE_S, Member, World

INTERVAL = 4


def placed(a: Member, b: Member, ballast_bytes: int) -> tuple[_kernel.ObjectID, Host]:
    actor = a.node.create(a.node.driver.put(encoded(1), RAW), interval=INTERVAL)
    return actor, served(a, b, ballast_bytes)


def served(a: Member, b: Member, ballast_bytes: int) -> Host:
    assert a.offload(b) == 1
    a.world.until(lambda: b.arena.stats()["ready_tasks"] == 1)
    return Host(b.node, INTERVAL, ballast_bytes)


def called(a: Member, actor: _kernel.ObjectID, numbers: range) -> list[_kernel.ObjectID]:
    calls = []
    for number in numbers:
        call = a.node.call(actor, number)
        assert isinstance(call, _kernel.ObjectID)
        calls.append(call)
    return calls


def are_known(a: Member, calls: list[_kernel.ObjectID]) -> None:
    a.world.until(lambda: all(a.node.driver.is_ready(call) for call in calls))


def positions(a: Member, calls: list[_kernel.ObjectID]) -> list[int]:
    return [decoded(a.node.driver.get(call, 0)[1]) for call in calls]


def everything_ends(world: World, host: Host, dead: Member, lost: Host) -> None:
    """The actor goes with its last handle, and then what is left of the node that has died."""
    world.until(lambda: not host.is_alive())
    everything_is_gone(world)
    dead.arena.shut()
    lost.join()


@pytest.mark.parametrize("ballast_bytes", [0, LARGE])
def test_it_goes_on_from_the_newest_checkpoint_at_a_third_node(ballast_bytes: int) -> None:
    """Small ones come with the message, large ones are fetched; and so where it goes on."""
    world = World(3)
    a, b, c = world.members
    actor, first = placed(a, b, ballast_bytes)
    calls = called(a, actor, range(3 * INTERVAL + 1))
    are_known(a, calls)
    world.settle()
    world.kill(b)
    second = served(a, c, ballast_bytes)
    calls += called(a, actor, range(100, 100 + INTERVAL))
    are_known(a, calls)
    assert second.began_with == list(range(3 * INTERVAL))
    assert second.told == [*range(3 * INTERVAL + 1), *range(100, 100 + INTERVAL)]
    assert positions(a, calls) == list(range(1, len(calls) + 1))
    del actor, calls
    everything_ends(world, second, b, first)


@pytest.mark.parametrize("ballast_bytes", [0, LARGE])
@pytest.mark.parametrize("loss", ["link", "owner's node manager", "server's node manager"])
def test_a_checkpoint_that_was_lost_is_told_of_again(loss: str, ballast_bytes: int) -> None:
    world = World(2)
    a, b = world.members
    actor, first = placed(a, b, ballast_bytes)
    calls = called(a, actor, range(INTERVAL))
    a.look()
    while world.deliver():
        pass
    until_saved(b)
    b.look()  # all that it says now is lost
    if loss == "link":
        world.cut(a, b)
        world.connect(a, b)
    else:
        (a if loss == "owner's node manager" else b).restart()
    are_known(a, calls)
    world.settle()
    world.kill(b)
    second = Host(a.node, INTERVAL, ballast_bytes)
    calls += called(a, actor, range(100, 101))
    are_known(a, calls)
    assert second.began_with == list(range(INTERVAL))
    del actor, calls
    everything_ends(world, second, b, first)


def until_saved(b: Member) -> None:
    """Done calls are kept until the next checkpoint: of all tasks then the creation alone is there."""
    deadline_s = time.monotonic() + PATIENCE_S
    while b.arena.stats()["tasks"] > 1:
        assert time.monotonic() < deadline_s


@pytest.mark.parametrize("ballast_bytes", [0, LARGE])
@pytest.mark.parametrize("restarts", [False, True])
def test_it_leaves_a_node(restarts: bool, ballast_bytes: int) -> None:
    world = World(3)
    a, b, c = world.members
    actor, first = placed(a, b, ballast_bytes)
    calls = called(a, actor, range(2 * INTERVAL + 1))
    are_known(a, calls)
    b.arena.call(b.arena.served_actors()[0], encoded(LEAVE), None, None, 0)
    calls += called(a, actor, range(100, 110))
    first.join()
    if restarts:
        b.look()
        a.restart()
    world.settle()
    assert b.arena.stats()["actors"] == 0
    second = served(a, c, ballast_bytes)
    are_known(a, calls)
    assert second.began_with == first.told
    assert second.told == [*range(2 * INTERVAL + 1), *range(100, 110)]
    assert positions(a, calls) == list(range(1, len(calls) + 1))
    del actor, calls
    world.until(lambda: not second.is_alive())
    everything_is_gone(world)
