from dataclasses import dataclass, field
from functools import partial

import pytest

from tests.simulator.network import NOTICED_US, Network
from tests.simulator.world import Unending, World

A, B = b"a", b"b"


@dataclass
class Recorder:
    """An end that writes down what it is told."""

    told: list[object] = field(default_factory=list)

    def on_link_up(self, node: bytes) -> None:
        self.told.append("up")

    def on_link_down(self, node: bytes) -> None:
        self.told.append("down")

    def on_message(self, node: bytes, message: object) -> None:
        self.told.append(message)


def linked(seed: int) -> tuple[World, Network, Recorder, Recorder]:
    world = World(seed)
    network = Network(world)
    a, b = Recorder(), Recorder()
    network.join(A, a)
    network.join(B, b)
    network.want_link(A, B)
    network.want_link(B, A)
    world.run_out(1_000_000)
    assert a.told == ["up"]
    assert b.told == ["up"]
    return world, network, a, b


def test_a_link_keeps_the_order() -> None:
    for seed in range(50):
        world, network, _, b = linked(seed)
        for number in range(20):
            network.send(A, B, number)
        world.run_out(1_000_000)
        assert b.told == ["up", *range(20)]


def test_a_broken_link_loses_the_last_and_both_notice() -> None:
    lengths = set()
    for seed in range(50):
        world, network, a, b = linked(seed)
        for number in range(20):
            network.send(A, B, number)
        network.break_link(A, B)
        network.send(A, B, "lost")
        world.run(world.now_us + NOTICED_US)
        assert a.told == ["up", "down"]
        assert b.told[-1] == "down"
        arrived = b.told[1:-1]
        assert arrived == list(range(len(arrived)))
        lengths.add(len(arrived))
        network.want_link(A, B)
        world.run_out(1_000_000)
        assert (a.told[-1], b.told[-1]) == ("up", "up")
    assert len(lengths) > 3


def test_what_is_cut_in_one_direction_waits() -> None:
    world, network, a, b = linked(1)
    network.cut(A, B)
    network.send(A, B, "there")
    network.send(B, A, "back")
    world.run(world.now_us + 1_000_000)
    assert b.told == ["up"]
    assert a.told == ["up", "back"]
    network.heal_all()
    world.run_out(1_000_000)
    assert b.told == ["up", "there"]


def test_no_link_comes_up_where_one_direction_is_cut() -> None:
    world, network, a, _ = linked(1)
    network.break_link(A, B)
    network.cut(B, A)
    world.run(world.now_us + NOTICED_US)
    network.want_link(A, B)
    world.run(world.now_us + 1_000_000)
    assert a.told == ["up", "down"]
    network.heal(B, A)
    world.run_out(1_000_000)
    assert a.told == ["up", "down", "up"]


def test_a_node_that_is_gone_is_noticed() -> None:
    world, network, a, b = linked(1)
    network.leave(B)
    network.send(A, B, "lost")
    world.run_out(1_000_000)
    assert a.told == ["up", "down"]
    assert b.told == ["up"]
    network.want_link(A, B)
    world.run_out(1_000_000)


def test_events_of_one_time_keep_their_order() -> None:
    world = World(0)
    seen: list[int] = []
    for number in range(5):
        world.after(10, partial(seen.append, number))
    world.run_out(10)
    assert seen == [0, 1, 2, 3, 4]


def test_a_run_without_an_end_is_one() -> None:
    world = World(0)

    def again() -> None:
        world.after(10, again)

    again()
    with pytest.raises(Unending, match="seed 0"):
        world.run_out(1_000)
