import random
from dataclasses import replace

from ray.policy.workers import FORK_BURST, Burst, Surplus, WorkerDemand, to_fork

KEEP_MS = 10_000

REST = WorkerDemand(ready=0, idle=2, total=2, starting=0, floor=2, limit=100)


def test_nothing_to_do_forks_nobody() -> None:
    assert to_fork(REST) == 0


def test_start_forks_the_floor() -> None:
    assert to_fork(WorkerDemand(ready=0, idle=0, total=0, starting=0, floor=4, limit=100)) == 4


def test_floor_is_no_limit_on_parallelism() -> None:
    demand = WorkerDemand(ready=3, idle=0, total=1, starting=0, floor=1, limit=100)
    assert to_fork(demand) == 3


def test_idle_and_starting_workers_count_against_ready_tasks() -> None:
    assert to_fork(replace(REST, ready=5, idle=2, starting=1)) == 2


def test_floor_zero_starts_on_demand() -> None:
    nobody = WorkerDemand(ready=0, idle=0, total=0, starting=0, floor=0, limit=100)
    assert to_fork(nobody) == 0
    assert to_fork(replace(nobody, ready=1)) == 1


def test_never_beyond_limit_or_burst() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(2000):
        total, starting, limit = rng.randrange(200), rng.randrange(50), rng.randrange(200)
        idle, floor = rng.randrange(total + 1), rng.randrange(64)
        demand = WorkerDemand(rng.randrange(1000), idle, total, starting, floor, limit)
        forked = to_fork(demand)
        assert 0 <= forked <= FORK_BURST
        assert forked == 0 or total + starting + forked <= limit


BUSY = WorkerDemand(ready=0, idle=0, total=20, starting=0, floor=2, limit=100)


def seen(*looks: tuple[int, WorkerDemand]) -> Burst:
    burst = Burst()
    for now_ms, demand in looks:
        burst = burst.update(demand, 2, now_ms)
    return burst


def test_as_many_as_the_last_burst_took_are_forked_ahead_of_the_next() -> None:
    burst = seen(
        (1_000, REST), (1_010, replace(REST, ready=8, idle=0)), (1_020, replace(REST, ready=18, idle=0))
    )
    assert (burst.size, burst.at_ms) == (20, 1_020)
    assert burst.to_fork_ahead(replace(BUSY, starting=20), 1_030, KEEP_MS) == 0
    assert burst.to_fork_ahead(BUSY, 1_030, KEEP_MS) == 20
    assert burst.to_fork_ahead(replace(BUSY, starting=5, idle=6), 1_030, KEEP_MS) == 9
    assert burst.to_fork_ahead(replace(BUSY, limit=25), 1_030, KEEP_MS) == 5


def test_a_burst_that_idle_workers_took_is_one_as_well_however_late_it_is_seen() -> None:
    forked_ahead = replace(BUSY, idle=20, total=40)
    assert seen((1_000, forked_ahead), (60_000, BUSY)).size == 20


def test_nothing_is_forked_ahead_while_work_waits_or_long_after_a_burst() -> None:
    burst = Burst(18, 1_000)
    assert burst.to_fork_ahead(replace(BUSY, ready=1), 1_000, KEEP_MS) == 0
    assert burst.to_fork_ahead(BUSY, 1_000 + KEEP_MS - 1, KEEP_MS) == 18
    assert burst.to_fork_ahead(BUSY, 1_000 + KEEP_MS, KEEP_MS) == 0


def test_the_nodes_own_workers_are_no_burst_however_often_they_come_and_go() -> None:
    looks = [(ms, replace(REST, idle=2 * (ms % 2))) for ms in range(2_000)]
    assert seen(*looks).size == 0


def test_workers_that_stay_taken_are_one_burst_and_not_one_again_at_each_look() -> None:
    looks = [(now_ms, BUSY) for now_ms in range(1_000, 30_000, 1_000)]
    burst = seen((0, replace(REST, idle=20, total=20)), (10, BUSY), *looks)
    assert (burst.size, burst.at_ms) == (20, 10)


def test_slow_takers_are_no_burst() -> None:
    idle = (REST.idle + 20, *range(REST.idle + 19, -1, -1))
    assert seen(*((n * 1_000, replace(REST, idle=k, total=22)) for n, k in enumerate(idle))).size == 0


def test_never_more_than_a_burst_of_forks_ahead() -> None:
    assert Burst(500, 0).to_fork_ahead(replace(BUSY, limit=1_000), 0, KEEP_MS) == FORK_BURST


def test_surplus_is_let_go_only_after_its_time() -> None:
    demand = replace(REST, idle=7, total=8, floor=2)
    state, count = Surplus().update(demand, 2, 1_000, KEEP_MS)
    assert count == 0
    state, count = state.update(demand, 2, 1_000 + KEEP_MS - 1, KEEP_MS)
    assert count == 0
    assert state.update(demand, 2, 1_000 + KEEP_MS, KEEP_MS) == (Surplus(), 6)


def test_as_many_workers_as_wanted_are_kept_for_ever() -> None:
    demand = replace(REST, idle=4, total=4, floor=0)
    assert Surplus(0).update(demand, 4, 10 * KEEP_MS, KEEP_MS) == (Surplus(), 0)


def test_work_resets_the_time_of_a_surplus() -> None:
    demand = replace(REST, idle=7, total=7, floor=2)
    state, _ = Surplus().update(demand, 2, 0, KEEP_MS)
    state, _ = state.update(replace(demand, ready=1), 2, 10, KEEP_MS)
    assert state.update(demand, 2, KEEP_MS, KEEP_MS) == (Surplus(KEEP_MS), 0)


def test_busy_workers_are_never_counted_as_surplus() -> None:
    demand = replace(REST, idle=1, total=9, floor=2)
    assert Surplus(0).update(demand, 2, KEEP_MS, KEEP_MS)[1] == 1
