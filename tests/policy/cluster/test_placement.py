from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray.policy.cluster.placement import (
    MOST_AT_ONCE,
    MOST_BUFFERED,
    STALE_MS,
    WORTH_MOVING_BYTES,
    Amounts,
    Here,
    Infeasible,
    Other,
    Placement,
    Queue,
    Send,
    buffered,
    fits,
    place,
    share,
    slots,
)

ONE = 10_000
CPU: Amounts = (ONE, 0)
GPU: Amounts = (ONE, ONE)
HERE = Here(b"a", total=(2 * ONE, 0), free=(2 * ONE, 0))
BUSY = replace(HERE, free=(0, 0))
B = Other(b"b", total=(2 * ONE, 0), free=(2 * ONE, 0), queued=0, age_ms=100)
C = replace(B, node=b"c")
WITH_GPU = replace(B, node=b"g", total=(2 * ONE, ONE), free=(2 * ONE, ONE))


def counts(placement: Placement) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    for send in placement.sends:
        found[send.node] = found.get(send.node, 0) + send.count
    return found


def test_local_first() -> None:
    assert place(HERE, [Queue(1, CPU, 2)], [B, C]).sends == ()


def test_what_does_not_run_here_goes_where_it_runs_at_once() -> None:
    assert place(HERE, [Queue(1, CPU, 4)], [B]).sends == (Send(b"b", 1, 2),)
    assert place(BUSY, [Queue(1, CPU, 100)], [B, C]).sends == (Send(b"b", 1, 2), Send(b"c", 1, 2))


def test_few_tasks_are_spread() -> None:
    assert counts(place(BUSY, [Queue(1, CPU, 2)], [B, C])) == {b"b": 1, b"c": 1}


def test_a_single_task_does_not_always_go_to_the_same_node() -> None:
    chosen = {place(replace(BUSY, turn=turn), [Queue(1, CPU, 1)], [B, C]).sends[0].node for turn in range(2)}
    assert chosen == {b"b", b"c"}


def test_long_tasks_never_wait_elsewhere() -> None:
    queue = Queue(1, CPU, 100, task_ms=5_000.0)
    assert counts(place(BUSY, [queue], [replace(B, round_trip_ms=20)])) == {b"b": 2}
    assert counts(place(BUSY, [queue], [replace(B, free=(0, 0))])) == {}


def test_short_tasks_hide_the_round_trip() -> None:
    queue = Queue(1, CPU, 10_000, task_ms=1.0)
    assert counts(place(BUSY, [queue], [replace(B, round_trip_ms=10)])) == {b"b": 2 + 20}
    full = replace(B, round_trip_ms=10, free=(0, 0))
    assert counts(place(BUSY, [queue], [replace(full, unreported=10)])) == {b"b": 10}
    assert counts(place(BUSY, [queue], [replace(full, unreported=11)])) == {}  # filled up when half are done


def test_this_nodes_buffer_comes_first() -> None:
    queue = Queue(1, CPU, 30, task_ms=1.0)
    slow = replace(B, round_trip_ms=10, free=(0, 0))
    assert counts(place(BUSY, [queue], [slow])) == {b"b": 10}
    assert counts(place(BUSY, [replace(queue, ready=20)], [slow])) == {}


def test_no_report_tells_of_ours_that_wait_there() -> None:
    """Of a node whose two CPUs run ours, and where two more of ours wait: that one has ended is no reason to
    send another, nor is a report that says nothing of those that wait."""
    full = replace(B, free=(0, 0), ours=4, ours_need=(4 * ONE, 0))
    one_waits = replace(full, ours=3, ours_need=(3 * ONE, 0), unreported=-1)
    none_waits = replace(full, ours=1, ours_need=(ONE, 0), unreported=-1)
    long, short = Queue(1, CPU, 100), Queue(1, CPU, 100, task_ms=1.0)  # of short ones two are to wait there
    assert place(BUSY, [long], [one_waits]).sends == ()
    assert counts(place(BUSY, [long], [none_waits])) == {b"b": 1}
    assert place(BUSY, [short], [full]).sends == ()
    assert counts(place(BUSY, [short], [one_waits])) == {b"b": 1}


def test_what_a_report_says_is_free_is_used_though_ours_are_there() -> None:
    """They wait for their arguments, or need less than what is placed."""
    assert counts(place(BUSY, [Queue(1, CPU, 100)], [replace(B, ours=2, ours_need=(2 * ONE, 0))])) == {
        b"b": 2
    }


def test_what_was_sent_and_is_not_reported_counts() -> None:
    assert counts(place(BUSY, [Queue(1, CPU, 9)], [replace(B, unreported=1)])) == {b"b": 1}
    assert counts(place(BUSY, [Queue(1, CPU, 9)], [replace(B, unreported=2)])) == {}
    # Two of ours have ended since the report that showed it full.
    assert counts(place(BUSY, [Queue(1, CPU, 9)], [replace(B, free=(0, 0), unreported=-2)])) == {b"b": 2}


def test_pieces_are_bounded() -> None:
    huge = replace(B, total=(5_000 * ONE, 0), free=(5_000 * ONE, 0))
    assert counts(place(BUSY, [Queue(1, CPU, 1 << 20)], [huge])) == {b"b": MOST_AT_ONCE}


def test_never_where_it_is_infeasible() -> None:
    placement = place(HERE, [Queue(1, GPU, 5)], [B, WITH_GPU])
    assert placement == Placement((Send(b"g", 1, 1),), ())


def test_infeasible_everywhere_is_reported() -> None:
    many = (16 * ONE, 0)
    placement = place(HERE, [Queue(1, many, 5), Queue(2, CPU, 9)], [B, WITH_GPU])
    assert placement.infeasible == (Infeasible(1, many),)
    assert {send.shape for send in placement.sends} == {2}


def test_what_only_another_node_can_run_gets_there_though_that_has_work() -> None:
    loaded = replace(WITH_GPU, free=(0, 0), queued=500)
    assert counts(place(HERE, [Queue(1, GPU, 5)], [loaded])) == {b"g": 1}
    assert counts(place(HERE, [Queue(1, GPU, 5)], [replace(loaded, ours=1)])) == {}


def test_a_drained_node_gets_nothing() -> None:
    gone = replace(B, draining=True)
    assert place(BUSY, [Queue(1, CPU, 50, task_ms=0.1)], [gone]).sends == ()
    gpu_gone = replace(WITH_GPU, draining=True)
    assert [each.shape for each in place(BUSY, [Queue(1, GPU, 1)], [gpu_gone]).infeasible] == [1]


def test_a_node_that_drains_gives_all_it_can() -> None:
    draining = replace(HERE, draining=True)
    assert counts(place(draining, [Queue(1, CPU, 2)], [B, C])) == {b"b": 1, b"c": 1}
    assert place(draining, [Queue(1, CPU, 2)], []).infeasible == (Infeasible(1, CPU),)


def test_an_old_report_is_no_licence() -> None:
    old = replace(B, age_ms=STALE_MS + 1)
    queue = Queue(1, CPU, 50, task_ms=0.1)
    assert counts(place(BUSY, [queue], [old])) == {b"b": 2}
    assert counts(place(BUSY, [queue], [replace(old, ours=2)])) == {}


def test_where_ours_may_still_wait_for_their_arguments_others_come_first() -> None:
    waiting = replace(B, ours=2)  # which by its report neither run nor are ready
    assert counts(place(BUSY, [Queue(1, CPU, 2)], [waiting, C])) == {b"c": 2}
    assert counts(place(BUSY, [Queue(1, CPU, 4)], [waiting, C])) == {b"b": 2, b"c": 2}


def test_large_arguments_draw_a_task_to_them() -> None:
    queue = Queue(1, CPU, 2, argument_bytes={b"c": 5 * WORTH_MOVING_BYTES, b"a": WORTH_MOVING_BYTES})
    assert counts(place(HERE, [queue], [B, C])) == {b"c": 2}
    assert counts(place(HERE, [replace(queue, ready=3)], [B, C])) == {b"c": 2}
    here = {b"c": 5 * WORTH_MOVING_BYTES, b"a": 5 * WORTH_MOVING_BYTES}
    assert counts(place(HERE, [replace(queue, argument_bytes=here)], [B, C])) == {}
    small = {b"c": WORTH_MOVING_BYTES - 1}
    assert counts(place(HERE, [replace(queue, argument_bytes=small)], [B, C])) == {}


def test_shapes_share_what_is_free() -> None:
    placement = place(BUSY, [Queue(1, CPU, 1), Queue(2, (2 * ONE, 0), 3), Queue(3, CPU, 3)], [B])
    assert placement.sends == (Send(b"b", 1, 1), Send(b"b", 3, 1))


@given(st.integers(0, 500), st.integers(1, 20), st.integers(0, 100))
def test_shares_make_the_whole(count: int, senders: int, number: int) -> None:
    shares = [share(count, senders, rank + number) for rank in range(senders)]
    assert sum(shares) == count
    assert max(shares) - min(shares) <= 1


def test_several_senders_do_not_overfill_one_node() -> None:
    target = replace(B, node=b"t", total=(5 * ONE, 0), free=(5 * ONE, 0), senders=3)
    sent = [
        counts(place(Here(bytes([rank]), (ONE, 0), (0, 0), turn=rank), [Queue(1, CPU, 50)], [target]))
        for rank in range(3)
    ]
    assert sum(each.get(b"t", 0) for each in sent) == 5


@pytest.mark.parametrize(
    ("task_ms", "expected"),
    [(None, 0), (10_000.0, 0), (10.0, 4), (0.001, 4 * MOST_BUFFERED), (0.0, 4 * MOST_BUFFERED)],
)
def test_buffers(task_ms: float | None, expected: int) -> None:
    assert buffered(4, task_ms, round_trip_ms=10.0) == expected


def test_tasks_that_need_nothing() -> None:
    assert slots((3 * ONE, 0), (0, 0)) == 3
    assert slots((-ONE, 0), (0, 0)) == slots((-ONE, 0), CPU) == 0


AMOUNTS = st.tuples(st.integers(0, 8).map(lambda n: n * ONE), st.integers(0, 2).map(lambda n: n * ONE))
QUEUES = st.lists(
    st.builds(
        Queue,
        shape=st.integers(1, 1 << 30),
        needs=AMOUNTS,
        ready=st.integers(0, 5_000),
        task_ms=st.one_of(st.none(), st.floats(0, 10_000)),
        argument_bytes=st.dictionaries(st.sampled_from([b"0", b"1", b"a"]), st.integers(0, 1 << 30)),
    ),
    max_size=5,
    unique_by=lambda queue: queue.shape,
)


@st.composite
def others(draw: st.DrawFn) -> list[Other]:
    found = []
    for index in range(draw(st.integers(0, 5))):
        total = draw(AMOUNTS)
        free = tuple(draw(st.integers(-ONE, amount)) for amount in total)
        found.append(
            Other(
                str(index).encode(),
                total,
                free,
                queued=draw(st.integers(0, 100)),
                age_ms=draw(st.integers(0, 2 * STALE_MS)),
                ours=draw(st.integers(0, 50)),
                unreported=draw(st.integers(-50, 50)),
                round_trip_ms=draw(st.floats(0, 100)),
                senders=draw(st.integers(1, 5)),
                draining=draw(st.booleans()),
            )
        )
    return found


@st.composite
def heres(draw: st.DrawFn) -> Here:
    total = draw(AMOUNTS)
    free = tuple(draw(st.integers(-ONE, amount)) for amount in total)
    return Here(b"a", total, free, draw(st.booleans()), draw(st.integers(0, 1_000)))


@settings(max_examples=150, deadline=None)
@given(heres(), QUEUES, others())
def test_what_holds_of_every_placement(here: Here, queues: list[Queue], nodes: list[Other]) -> None:
    placement = place(here, queues, nodes)
    by_shape = {queue.shape: queue for queue in queues}
    by_node = {node.node: node for node in nodes}
    sent: dict[int, int] = {}
    for send in placement.sends:
        queue, node = by_shape[send.shape], by_node[send.node]
        assert 0 < send.count <= MOST_AT_ONCE
        assert not node.draining
        assert fits(node.total, queue.needs)
        # What it can start, and the buffer.
        most = slots(node.total, queue.needs) * (1 + MOST_BUFFERED)
        assert send.count <= most
        sent[send.shape] = sent.get(send.shape, 0) + send.count
    assert len({(send.node, send.shape) for send in placement.sends}) == len(placement.sends)
    for shape, count in sent.items():
        assert count <= by_shape[shape].ready
    totals = [node.total for node in nodes if not node.draining] + ([] if here.draining else [here.total])
    infeasible = {each.shape for each in placement.infeasible}
    for queue in queues:
        feasible = any(fits(total, queue.needs) for total in totals)
        assert (queue.shape in infeasible) == (queue.ready > 0 and not feasible)


@settings(max_examples=100, deadline=None)
@given(heres(), QUEUES, others())
def test_nobody_idles_beside_a_queue(here: Here, queues: list[Queue], nodes: list[Other]) -> None:
    """With one shape and one sender: a node left idle means that nothing was left to send."""
    for queue in queues:
        nodes = [replace(node, senders=1, queued=0, unreported=0, age_ms=0) for node in nodes]
        placement = place(here, [queue], nodes)
        sent = counts(placement)
        kept = queue.ready - sum(sent.values())
        can_start = (
            slots(here.free, queue.needs) if not here.draining and fits(here.total, queue.needs) else 0
        )
        for node in nodes:
            if node.draining or not fits(node.total, queue.needs):
                continue
            idle = min(slots(node.free, queue.needs), slots(node.total, queue.needs), MOST_AT_ONCE)
            assert kept <= can_start or sent.get(node.node, 0) >= idle


@pytest.mark.parametrize("nodes", [2, 4, 10])
@pytest.mark.parametrize("task_ms", [1, 10])
def test_a_burst_spreads_and_keeps_everybody_busy(nodes: int, task_ms: int) -> None:
    """20,000 tasks here, two CPUs a node, 2 ms to each; decided every 2 ms and reported every 250 ms."""
    left, elsewhere = 5_000 * nodes // task_ms, nodes - 1
    work = left
    slot_count, delay_ms, report_ms = 2, 2, 250
    queues = [0] * elsewhere  # waiting tasks there
    running: list[list[int]] = [[] for _ in range(nodes)]  # end times; the last is this node
    arriving: list[list[tuple[int, int]]] = [[] for _ in range(elsewhere)]
    returning: list[list[int]] = [[] for _ in range(elsewhere)]
    reports = [(slot_count, 0)] * elsewhere
    ours, since_report = [0] * elsewhere, [0] * elsewhere
    measured: float | None = None
    now_ms = reported_ms = 0
    first_ms: dict[int, int] = {}
    while left or any(queues) or any(running) or any(arriving) or any(returning):
        now_ms += 1
        assert now_ms < 60_000
        for index in range(elsewhere):
            queues[index] += sum(count for at_ms, count in arriving[index] if at_ms <= now_ms)
            arriving[index] = [each for each in arriving[index] if each[0] > now_ms]
            returned = sum(at_ms <= now_ms for at_ms in returning[index])
            returning[index] = [at_ms for at_ms in returning[index] if at_ms > now_ms]
            ours[index] -= returned
            since_report[index] -= returned
            if returned:
                measured = float(task_ms)
        for index in range(nodes):
            ended = sum(at_ms <= now_ms for at_ms in running[index])
            running[index] = [at_ms for at_ms in running[index] if at_ms > now_ms]
            if index < elsewhere:
                returning[index] += [now_ms + delay_ms] * ended
                start = min(slot_count - len(running[index]), queues[index])
                queues[index] -= start
                if start:
                    first_ms.setdefault(index, now_ms)
            else:
                start = min(slot_count - len(running[index]), left)
                left -= start
            running[index] += [now_ms + task_ms] * start
        if now_ms % report_ms == 0:
            reported_ms = now_ms
            reports = [(slot_count - len(running[index]), queues[index]) for index in range(elsewhere)]
            since_report = [0] * elsewhere
            for index in range(elsewhere):
                since_report[index] += sum(count for _, count in arriving[index]) - len(returning[index])
        if now_ms % 2 == 0 and left:
            views = [
                Other(
                    bytes([index]),
                    (slot_count * ONE, 0),
                    (reports[index][0] * ONE, 0),
                    reports[index][1],
                    now_ms - reported_ms,
                    ours[index],
                    since_report[index],
                    round_trip_ms=2 * delay_ms + 2,
                )
                for index in range(elsewhere)
            ]
            free = (slot_count - len(running[-1])) * ONE
            for send in place(
                Here(b"here", (slot_count * ONE, 0), (free, 0), turn=now_ms),
                [Queue(1, CPU, left, measured)],
                views,
            ).sends:
                index = send.node[0]
                left -= send.count
                ours[index] += send.count
                since_report[index] += send.count
                arriving[index].append((now_ms + delay_ms, send.count))
                # Never more waits there than hides the round trip, twice over.
                assert ours[index] <= slot_count * (1 + 3 * (2 * delay_ms + 2))
    ideal_ms = work * task_ms / (nodes * slot_count)
    assert set(first_ms) == set(range(elsewhere))
    assert max(first_ms.values()) < 1_000
    assert now_ms <= 1.25 * ideal_ms + 100
