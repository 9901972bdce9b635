from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.policy.memory import (
    FILLED_BYTES_PER_MS,
    LATEST_MS,
    LITTLE_BYTES,
    LITTLE_OF_LARGEST,
    LONGEST_PAUSES,
    PATIENCE_PAUSES,
    SOONEST_MS,
    Allowance,
    Pause,
    Rank,
    Worker,
    choose,
    next_look_ms,
    runs_again,
    tightest,
)

MIB = 1 << 20
LIMIT = 1_000 * MIB


def worker(pid: int, rank: Rank = Rank.RETRIABLE, mib: int = 100, since_ns: int = 0) -> Worker:
    return Worker(pid, pid, rank, mib * MIB, since_ns or pid)


WORKERS = st.lists(
    st.builds(
        Worker,
        pid=st.integers(1, 1 << 22),
        key=st.integers(1, 1 << 63),
        rank=st.sampled_from(Rank),
        held_bytes=st.one_of(st.integers(0, 4 * LITTLE_BYTES), st.integers(0, LIMIT)),
        since_ns=st.integers(0, 100),
        stops=st.integers(0, 5),
        restarts=st.booleans(),
    ),
    max_size=12,
    unique_by=lambda worker: worker.pid,
)


def test_nobody_to_stop() -> None:
    assert choose([], LIMIT) is None


def test_the_newest_retriable_task() -> None:
    old, new = worker(1), worker(2)
    assert choose([old, new], LIMIT) == new
    assert choose([replace(old, since_ns=9), new], LIMIT) == replace(old, since_ns=9)


@pytest.mark.parametrize("later", [Rank.RETRIABLE, Rank.ONCE, Rank.ACTOR])
def test_the_order_of_ranks(later: Rank) -> None:
    first = worker(1, Rank(later - 1))
    assert choose([worker(2, later, mib=900), first], LIMIT) == first


def test_a_newer_one_that_holds_little_is_passed_over() -> None:
    hog = worker(1, mib=500)
    assert choose([hog, worker(2, mib=49)], LIMIT) == hog
    assert choose([hog, worker(2, mib=50)], LIMIT) == worker(2, mib=50)


def test_an_actor_that_holds_much_goes_before_a_task_that_holds_little() -> None:
    actor = worker(1, Rank.ACTOR, mib=500)
    assert choose([actor, worker(2, mib=9)], LIMIT) == actor


def test_many_that_hold_little_each() -> None:
    crowd = [worker(pid, mib=9) for pid in range(1, 60)]
    assert choose(crowd, 100 * LIMIT) == crowd[-1]


def test_who_holds_next_to_nothing_is_left_alone() -> None:
    assert choose([worker(1, mib=7), worker(2, Rank.IDLE, mib=7)], LIMIT) is None


@given(WORKERS, st.integers(1, 1 << 44))
def test_what_holds_of_every_choice(workers: list[Worker], limit_bytes: int) -> None:
    chosen = choose(workers, limit_bytes)
    if chosen is None:
        assert all(each.held_bytes < LITTLE_BYTES for each in workers)
        return
    assert chosen in workers
    assert chosen.held_bytes >= LITTLE_BYTES
    for each in workers:
        # Whoever should have gone first holds less.
        if each.rank < chosen.rank:
            assert each.held_bytes < max(LITTLE_BYTES, limit_bytes // 100)
        if each.rank == chosen.rank:
            assert chosen.held_bytes >= each.held_bytes // LITTLE_OF_LARGEST
            if each.since_ns > chosen.since_ns:
                assert each.held_bytes < max(chosen.held_bytes, limit_bytes // 100)


@given(WORKERS, st.integers(1, 1 << 44), st.randoms())
def test_the_order_in_which_they_are_listed_does_not_matter(
    workers: list[Worker], limit_bytes: int, random: object
) -> None:
    chosen = choose(workers, limit_bytes)
    random.shuffle(workers)  # type: ignore[attr-defined]
    assert choose(workers, limit_bytes) == chosen


@given(WORKERS)
def test_stopping_one_after_the_other_comes_to_an_end(workers: list[Worker]) -> None:
    while chosen := choose(workers, LIMIT):
        workers.remove(chosen)
    assert all(each.held_bytes < LITTLE_BYTES for each in workers)


def test_retries_are_bounded() -> None:
    task = worker(1)
    assert [runs_again(replace(task, stops=stops), 2) for stops in range(4)] == [True, True, False, False]
    assert not runs_again(task, 0)


def test_what_must_not_run_twice_does_not() -> None:
    assert not runs_again(worker(1, Rank.ONCE), 3)
    assert not runs_again(worker(1, Rank.ACTOR), 3)
    assert runs_again(replace(worker(1, Rank.ACTOR), restarts=True), 3)
    assert not runs_again(replace(worker(1, Rank.ACTOR), restarts=True, stops=3), 3)


def test_the_tightest_limit_counts() -> None:
    machine = Allowance("machine", 5 * MIB, 100 * MIB, 95 * MIB)
    cgroup = Allowance("cgroup", 1 * MIB, 10 * MIB, 9 * MIB)
    assert tightest([machine, cgroup]) == cgroup
    assert tightest([]) is None
    assert cgroup.room_bytes == 8 * MIB


@given(st.integers(-(1 << 40), 1 << 44))
def test_less_room_sooner_looks(room_bytes: int) -> None:
    pause = next_look_ms(room_bytes)
    assert SOONEST_MS <= pause <= LATEST_MS
    assert pause <= next_look_ms(room_bytes + MIB)
    if pause > SOONEST_MS:
        assert pause * FILLED_BYTES_PER_MS <= room_bytes


def test_a_pause_doubles_up_to_a_limit() -> None:
    lengths = [Pause.after_stop(0, 500, stops).length_ms for stops in range(6)]
    assert lengths == [500, 1_000, 2_000, 4_000, 4_000, 4_000]
    assert Pause.after_stop(0, 500, 10_000).length_ms == LONGEST_PAUSES * 500


def test_a_task_rests_until_memory_is_back_and_the_pause_over() -> None:
    pause = Pause.after_stop(10_000, 500, 0)
    assert not pause.is_over(10_499, room_bytes=1)
    assert pause.is_over(10_500, room_bytes=1)
    assert not pause.is_over(10_500, room_bytes=0)


def test_but_not_for_ever() -> None:
    pause = Pause.after_start(0, 500)
    assert not pause.is_over(PATIENCE_PAUSES * 500 - 1, room_bytes=-1)
    assert pause.is_over(PATIENCE_PAUSES * 500, room_bytes=-1)
