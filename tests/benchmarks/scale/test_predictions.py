"""What is predicted: by the full simulation, by the one of large clusters, and by both alike."""

from dataclasses import replace

import pytest

from benchmarks.scale import compared, large, predicted
from benchmarks.scale.costs import Costs, Line, Step
from benchmarks.scale.loop import Cores, Loop, Wires
from benchmarks.scale.workload import Plan, Sizes
from ray.policy.cluster.views import ALL_TOLD
from tests.simulator.world import World

NOTHING = Line(0.0, 0.0)
COSTS = Costs(
    look=Step(200.0, 4.0),
    load_in=Step(50.0, 1.0),
    published=Line(0.0, 0.1),
    view_made=Line(0.0, 0.5),
    view_encoded=Line(6.0, 0.1),
    view_decoded=Line(0.0, 1.7),
    view_taken=Line(10.0, 0.2),
    view_confirmed=Line(0.0, 0.03),
    placed=Line(0.0, 8.0),
    sent=4.0,
    ticked=Line(3.0, 0.1),
    turn=150.0,
    rung=20.0,
    frame_out=15.0,
    frame_in=15.0,
    byte_out=0.0007,
    byte_in=0.0007,
    task_out=Step(100.0, 3.0),
    task_in=Step(200.0, 4.0),
    result_out=Step(150.0, 1.0),
    result_in=Step(250.0, 2.0),
    view_bytes=Line(0.0, 57.0),
)
SIZES = Sizes(payload=23, function=86, result=58)
PLAN = Plan(nodes=4, idle_s=5, tasks_a_cpu=8, deaths=1)


@pytest.fixture(scope="module")
def foretold() -> dict[str, float]:
    return predicted.predict(PLAN, COSTS, SIZES)


def test_at_rest_each_node_says_once_a_second_that_it_is_there(foretold: dict[str, float]) -> None:
    assert foretold["idle.node.sent.Load"] == pytest.approx(1.0, rel=0.2)
    assert foretold["idle.node.sent.Ping"] == pytest.approx(2.0, rel=0.2)  # the head and the driver's node
    assert foretold["idle.head.sent.View"] == pytest.approx(PLAN.nodes - 1, rel=0.2)
    assert foretold["idle.home.placements"] == 0


def test_a_burst_runs_on_all_nodes_and_its_decisions_are_counted(foretold: dict[str, float]) -> None:
    ideal_s = sum(PLAN.task_lengths_s()) / PLAN.nodes
    assert ideal_s <= foretold["burst_s"] < 1.6 * ideal_s
    assert foretold["spread_ms"] < 1_000
    assert foretold["burst.home.placements"] > 0
    assert foretold["burst.node.sent.Results"] > 0


def test_a_killed_node_is_known_after_its_second_refusal(foretold: dict[str, float]) -> None:
    assert 200 <= foretold["death_ms"] < 1_000


def test_it_is_the_same_each_time() -> None:
    assert predicted.predict(PLAN, COSTS, SIZES) == predicted.predict(PLAN, COSTS, SIZES)


def test_what_work_costs_is_paid_in_time() -> None:
    dear = replace(COSTS, placed=Line(0.0, 50_000.0))
    assert predicted.predict(PLAN, dear, SIZES)["burst_s"] > predicted.predict(PLAN, COSTS, SIZES)["burst_s"]


def test_large_clusters_are_predicted_as_small_ones_are() -> None:
    """Where both can be; in one of them the head has no tasks of its own."""
    plan = Plan(nodes=20, cpus=2, idle_s=5, tasks_a_cpu=20, task_s=0.2, deaths=1)
    full = predicted.predict(plan, COSTS, SIZES, cores=None)
    cluster = large.LargeCluster(plan.nodes, plan.cpus, plan.task_s, COSTS, SIZES)
    cluster.run(3_000_000)
    rest = cluster.rates(5)
    assert full["idle.head.frame_bytes"] == pytest.approx(rest["head.sent_bytes"], rel=0.1)
    # As loops happen to find what comes together.
    assert full["idle.head.cpu_us"] == pytest.approx(rest["head.cpu_us"], rel=0.5)
    assert full["death_ms"] == pytest.approx(cluster.death(), rel=0.2)
    cluster.give(plan.tasks)
    while (home := cluster.home.tables).ended < plan.tasks:
        cluster.run(10_000)
    decisions = full["burst.home.placements"] * full["burst_s"]
    assert decisions == pytest.approx(cluster.home.traffic.placements, rel=0.3)
    assert home.busy == 0


def test_a_silent_node_is_dead_when_the_policy_says_so_and_nobody_else_is() -> None:
    cluster = large.LargeCluster(30, 1, 0.1, COSTS, SIZES)
    cluster.run(3_000_000)
    silent_ms = cluster.death(silent=True)
    assert silent_ms is not None
    assert 7_000 <= silent_ms <= 10_000
    assert cluster.falsely_dead() == 0


def test_in_a_large_cluster_loads_are_told_to_the_driver_s_node_alone() -> None:
    plan = large.LargePlan(ALL_TOLD + 20, tasks=20_000, idle_s=2, busy_s=2, warm_s=1, deaths=1)
    foretold = large.predict(plan, COSTS, SIZES)
    assert foretold["busy.used"] > 0.9  # type: ignore[operator]
    assert foretold["busy.node.got_bytes"] < 200  # type: ignore[operator]


class Counting(Loop):
    """Notes what it gets, and when."""

    def on_messages(self, source: bytes, messages: list[object]) -> None:
        self.got = [*getattr(self, "got", []), (self.world.now_us, messages)]
        self.spent_us += 1_000


def test_a_late_loop_reads_a_link_at_once() -> None:
    world = World(0)
    wires = Wires(world)
    one, other = (Counting(name, world, wires, Cores(world, 1), COSTS) for name in (b"a", b"b"))
    for turn in range(3):
        world.after(400 * turn, lambda turn=turn: one.post(lambda: one.queue(b"b", turn, 10)))
    world.run(10_000)
    assert [messages for _, messages in other.got] == [[0], [1, 2]]
    assert one.traffic.messages == 3


def test_shared_cores_are_waited_for() -> None:
    world = World(0)
    cores = Cores(world, 2)
    assert [cores.take(100) for _ in range(3)] == [100, 100, 200]


def test_a_row_holds_within_the_tolerance() -> None:
    row = compared.Row("x", "x", 3, 100.0, 119.0)
    assert row.holds
    assert not compared.Row("x", "x", 3, 100.0, 121.0).holds
    assert not compared.Row("x", "x", 3, 0.0, 1.0).holds
