"""When drivers are told of demands that no node can meet."""

from ray.policy.cluster.unmet import HOLD_MS, REPEAT_MS, Tell, UnmetDemands

CPU = 10_000
MUCH, LITTLE = (64 * CPU, 0, 0), (2 * CPU, 0, 0)
NODES = {b"a": LITTLE, b"b": LITTLE}
JOB, OTHER = 1, 2
JOBS = {JOB, OTHER}


def test_it_is_told_once_and_soon() -> None:
    demands = UnmetDemands()
    waiting = {(JOB, MUCH)}
    told = [(now, tell) for now in range(0, 60_000, 100) for tell in demands.look(waiting, JOBS, NODES, now)]
    assert told == [(HOLD_MS, Tell(JOB, MUCH, None))]


def test_each_job_hears_of_its_own() -> None:
    demands = UnmetDemands()
    gpu = (CPU, CPU, 0)
    waiting = {(JOB, MUCH), (JOB, gpu), (OTHER, gpu)}
    assert demands.look(waiting, JOBS, NODES, 0) == []
    told = demands.look(waiting, JOBS, NODES, HOLD_MS)
    assert sorted((tell.job, tell.needs) for tell in told) == sorted(waiting)


def test_what_is_over_at_once_is_not_told() -> None:
    demands = UnmetDemands()
    assert demands.look({(JOB, MUCH)}, JOBS, NODES, 0) == []
    assert demands.look(set(), JOBS, {**NODES, b"c": MUCH}, HOLD_MS) == []
    assert not demands


def test_a_node_that_can_is_told_and_named() -> None:
    demands = UnmetDemands()
    for now in (0, HOLD_MS):
        demands.look({(JOB, MUCH)}, JOBS, NODES, now)
    assert demands.look(set(), JOBS, {**NODES, b"c": MUCH}, 2 * HOLD_MS) == [Tell(JOB, MUCH, b"c")]
    assert demands.look(set(), JOBS, {**NODES, b"c": MUCH}, 3 * HOLD_MS) == []


def test_nothing_more_is_told_of_tasks_or_jobs_that_have_ended() -> None:
    demands = UnmetDemands()
    for now in (0, HOLD_MS):
        demands.look({(JOB, MUCH), (OTHER, MUCH)}, JOBS, NODES, now)
    assert demands.look({(OTHER, MUCH)}, JOBS, NODES, 2 * HOLD_MS) == []
    assert demands.look(set(), {JOB}, {**NODES, b"c": MUCH}, 3 * HOLD_MS) == []


def test_it_is_told_again_when_what_there_is_has_changed_but_not_in_a_flood() -> None:
    demands = UnmetDemands()
    times = []
    for now in range(0, 3 * REPEAT_MS, 100):
        nodes = NODES | {bytes((number,)): LITTLE for number in range(min(now, REPEAT_MS) // 100)}
        times += [now for _ in demands.look({(JOB, MUCH)}, JOBS, nodes, now)]
    assert times == [HOLD_MS, HOLD_MS + REPEAT_MS]
