"""Tasks, values and ids that go from one arena to another, by hand."""

import signal
import struct

import pytest

from ray import _kernel
from tests.core.nodes import CPU, RAW, Network, Node, decoded, encoded


@pytest.fixture
def network() -> Network:
    return Network(2)


def function_of(node: Node) -> _kernel.ObjectID:
    return node.driver.put(encoded(1), RAW)


def value_of(node: Node, oid: _kernel.ObjectID) -> int:
    fmt, data = node.driver.get(oid, 0)
    assert fmt == RAW
    return decoded(data)


def all_is_gone(network: Network) -> None:
    """What was made is freed everywhere; peers and guests stay known."""
    network.settle()
    for node in network.all:
        node.check()
        counts = node.counts()
        counts["processes"] -= len(node.manager.peers()) + len(node.manager.guests())
        assert counts == node.baseline


def test_a_peer_has_one_number_while_it_is_known(network: Network) -> None:
    a, b = network.all
    number = a.peer(b)
    assert number == a.peer(b)
    assert a.manager.peers() == [(number, b.node_id)]
    a.manager.bury_peer(number)
    assert a.manager.peers() == []
    with pytest.raises(_kernel.StaleHandle):
        a.manager.bury_peer(number)


def test_a_guest_is_a_job_of_this_arena(network: Network) -> None:
    a, b = network.all
    job = b.manager.enter_guest(b.peer(a), a.root_id)
    assert job == b.manager.enter_guest(b.peer(a), a.root_id)
    assert b.manager.guests() == [(job, b.peer(a), a.root_id)]
    assert b.manager.job_root(job) == (b.peer(a), a.root_id)
    assert b.manager.job_root(b.driver.job) == (0, b.root_id)
    assert b.manager.job_root(77) is None
    b.manager.bury_guest(job)
    assert b.manager.guests() == []
    assert b.manager.job_root(job) is None


def test_processes_of_other_nodes_are_not_shown_as_processes(network: Network) -> None:
    a, b = network.all
    before = a.manager.processes()
    a.manager.enter_guest(a.peer(b), b.root_id)
    assert a.manager.processes() == before
    assert not a.manager.bury(0, 0)


def test_a_task_runs_at_a_peer_and_its_result_comes_back(network: Network) -> None:
    a, b = network.all
    function = function_of(a)
    argument = a.driver.put(encoded(20), RAW)
    (result,) = a.submit(function, 3, [argument])
    queue = a.manager.queues()
    assert [entry[1:] for entry in queue] == [(CPU, 0, 0, 1, True)]
    assert a.offload(b) == 1
    assert a.manager.queues() == []
    assert len(a.manager.away(a.peer(b))) == 1
    assert not a.work()
    network.settle()
    assert value_of(a, result) == 23
    assert a.manager.away(a.peer(b)) == []
    assert b.manager.received(b.peer(a)) == []
    del function, argument, result
    all_is_gone(network)


def test_whose_tasks_wait_is_told_in_parts(network: Network) -> None:
    a, b = network.all
    function = function_of(a)
    results = [a.submit(function, number) for number in range(1_500)]
    (shape, *_), *_ = a.manager.queues()
    (job, _), *_ = a.manager.drivers()
    found, place = a.manager.waiting_jobs(shape, (0, 0))
    assert found == [job]
    assert place != (0, 0)
    assert a.manager.waiting_jobs(shape, place) == ([job], (0, 0))
    assert a.offload(b, 1_500) == 1_500
    assert a.manager.waiting_jobs(shape, place) == ([], (0, 0))
    network.settle()
    del function, results
    all_is_gone(network)


def test_a_task_without_returns_is_heard_of_when_it_is_done(network: Network) -> None:
    a, b = network.all
    function = function_of(a)
    a.submit(function, 3, num_returns=0)
    a.offload(b)
    network.settle(work=False)
    assert len(a.manager.away(a.peer(b))) == 1
    network.settle()
    assert a.manager.away(a.peer(b)) == []
    del function
    all_is_gone(network)


def test_many_arguments_and_results(network: Network) -> None:
    a, b = network.all
    function = function_of(a)
    arguments = [a.driver.put(encoded(n), RAW) for n in range(40)]
    results = a.submit(
        function, 5, arguments, [a.driver.put(encoded(9), RAW) for _ in range(30)], num_returns=30
    )
    a.offload(b)
    network.settle()
    assert [value_of(a, each) for each in results] == [sum(range(40)) + 5 + i for i in range(30)]
    del function, arguments, results
    all_is_gone(network)


def test_a_large_result_stays_there_until_it_is_wanted(network: Network) -> None:
    a, b = network.all
    function = function_of(a)
    (result,) = a.submit(function, 7, size=100_000)
    a.offload(b)
    network.settle()
    assert not a.driver.is_ready(result)
    assert a.manager.location(_kernel_id(a, result)) == (a.peer(b), 100_000, RAW)
    assert len(a.manager.away(a.peer(b))) == 1, "the task is kept as its lineage"
    with pytest.raises(_kernel.WaitTimeout):
        a.driver.get(result, 0)
    network.settle()
    assert value_of(a, result) == 7
    assert a.manager.away(a.peer(b)) == []
    del function, result
    all_is_gone(network)


def test_a_large_result_that_nobody_wants_is_freed_at_both_ends(network: Network) -> None:
    a, b = network.all
    function = function_of(a)
    (result,) = a.submit(function, 7, size=100_000)
    a.offload(b)
    network.settle()
    del result, function
    all_is_gone(network)


def test_a_task_that_waits_for_a_large_result_has_it_fetched(network: Network) -> None:
    a, b = network.all
    function = function_of(a)
    (first,) = a.submit(function, 7, size=100_000)
    a.offload(b)
    (second,) = a.submit(function, 1, [first])
    network.settle()
    assert value_of(a, second) == 8
    del function, first, second
    all_is_gone(network)


def test_ids_in_a_result_are_lent_with_it(network: Network) -> None:
    a, b = network.all
    function = function_of(a)
    (result,) = a.submit(function, 7)
    a.offload(b)
    network.settle(work=False)
    b.work(inner=99)
    network.settle()
    inner = a.manager.lend_nested(a.peer(b), _kernel_id(a, result))
    assert [owner for _, owner in inner] == [a.peer(b)]
    contained = a.driver.foreign(inner[0])
    with pytest.raises(_kernel.WaitTimeout):
        a.driver.get(contained, 0)
    network.settle()
    assert value_of(a, contained) == 99
    assert len(a.manager.notes(a.peer(b))) == 1
    del function, result, contained
    all_is_gone(network)


def test_a_failure_is_entered_in_the_journal_of_its_owner(network: Network) -> None:
    a, b = network.all
    function = function_of(a)
    results = a.submit(function, 7, num_returns=2)
    a.offload(b)
    network.settle(work=False)
    b.work(fail=b"it went wrong")
    network.settle()
    for result in results:
        fmt, data = a.driver.get(result, 0)
        assert (fmt, bytes(data)) == (100, b"it went wrong")
    errors = [entry for entry in a.manager.journal_read(0)[1] if entry[1] == _kernel.JOURNAL_ERROR]
    assert [(job, fmt, data) for _, _, job, fmt, data in errors] == [(a.driver.job, 100, b"it went wrong")]
    assert b.manager.journal_read(0)[1] == []


def test_a_task_comes_back_from_a_dead_node(network: Network) -> None:
    a, b = network.all
    function = function_of(a)
    (result,) = a.submit(function, 7)
    (large,) = a.submit(function, 8, size=100_000)
    (never,) = a.submit(function, 9, retries=0)
    a.offload(b)
    network.settle(work=False)
    b.work()
    b.work()
    network.settle(work=False)
    assert value_of(a, result) == 7
    network.die(b)
    network.settle()
    assert value_of(a, large) == 8
    fmt, data = a.driver.get(never, 0)
    assert fmt == _kernel.FORMAT_SYSTEM
    assert struct.unpack("<iiiI20s", bytes(data))[0] == _kernel.NODE_DIED
    a.check()
    assert a.manager.stats()["loans"] == 0


def test_what_a_dead_node_owned(network: Network) -> None:
    a, b = network.all
    held = a.driver.foreign((b.driver.put(encoded(1), RAW).binary(), a.peer(b)))
    known = a.driver.foreign((b.driver.put(encoded(2), RAW).binary(), a.peer(b)))
    a.manager.seal(_kernel_id(a, known), encoded(2), RAW)
    network.die(b)
    assert value_of(a, known) == 2
    assert a.manager.owner(_kernel_id(a, known)) == 0
    fmt, data = a.driver.get(held, 0)
    assert (fmt, struct.unpack("<iiiI20s", bytes(data))[0]) == (_kernel.FORMAT_SYSTEM, _kernel.OBJECT_LOST)
    a.check()


def test_the_tasks_of_a_dead_node_end(network: Network) -> None:
    a, b = network.all
    function = function_of(a)
    kept = [a.submit(function, n)[0] for n in range(3)]
    a.offload(b)
    network.settle(work=False)
    assert b.manager.stats()["ready_tasks"] == 3
    network.die(a)
    network.settle()
    b.check()
    assert b.counts()["tasks"] == 0
    del kept


def test_tasks_are_taken_back_that_have_not_begun(network: Network) -> None:
    a, b = network.all
    function = function_of(a)
    results = [a.submit(function, n)[0] for n in range(4)]
    a.offload(b)
    network.settle(work=False)
    assert b.work()
    peer = b.peer(a)
    dropped = b.manager.drop_received(peer, b.manager.received(peer))
    assert len(dropped) == 3
    assert a.manager.recall(a.peer(b), dropped) == 3
    while a.work():
        pass
    network.settle()
    assert [value_of(a, each) for each in results] == [0, 1, 2, 3]
    del function, results
    all_is_gone(network)


def test_tasks_of_another_node_stay(network: Network) -> None:
    a, b = network.all
    function = function_of(a)
    a.submit(function, 1)
    assert [entry[4] for entry in a.manager.queues()] == [1]
    a.offload(b)
    network.settle(work=False)
    assert b.manager.stats()["ready_tasks"] == 1
    assert b.manager.queues() == []


def test_a_lost_link_is_put_right_by_sync(network: Network) -> None:
    a, b = network.all
    function = function_of(a)
    results = [a.submit(function, n, size=size)[0] for n, size in ((1, 16), (2, 100_000), (3, 16))]
    a.offload(b)
    network.lose(a, b)  # nothing of it has arrived
    network.settle(work=False)
    assert a.manager.stats()["ready_tasks"] == 3
    a.offload(b)
    network.settle(work=False)
    b.work()
    b.work()
    b.tell_news()
    network.lose(a, b)  # nor have the results
    network.settle()
    assert value_of(a, results[0]) == 1
    network.lose(a, b)
    network.settle()
    with pytest.raises(_kernel.WaitTimeout):
        a.driver.get(results[1], 0)
    a.tell_news()
    network.lose(a, b)  # nor what was wanted
    network.settle()
    assert [value_of(a, each) for each in results] == [1, 2, 3]
    del function, results
    all_is_gone(network)


def test_an_id_that_went_through_a_third_node(network: Network) -> None:
    network = Network(3)
    a, b, c = network.all
    function = function_of(a)
    inner = a.driver.put(encoded(5), RAW)
    outer = a.driver.put(encoded(6), RAW, [inner])
    (result,) = a.submit(function, 1, [outer])
    a.offload(b)
    network.settle()
    there = b.driver.foreign((inner.binary(), b.peer(a)))
    del function, outer, result
    function = function_of(b)
    (second,) = b.submit(function, 2, [there])
    network.settle(work=False)
    assert b.offload(c) == 1
    network.settle(work=False)
    c.borrow()
    network.settle(work=False)
    del there, inner
    network.settle()
    assert value_of(b, second) == 7
    del second, function
    all_is_gone(network)


def test_a_block_is_written_through_its_buffer(network: Network) -> None:
    a, _ = network.all
    block = a.manager.allocate(100_000)
    with memoryview(block) as memory:
        assert not memory.readonly
        assert len(memory) == 100_000
        memory[:8] = encoded(11)[:8]
        with pytest.raises(ValueError, match="may still write"):
            a.manager.put(block, RAW)
    oid = a.manager.put(block, RAW)
    assert decoded(a.manager.get(oid)[1]) == 11
    with pytest.raises(BufferError):
        memoryview(block)


class _Woken(Exception):
    """By the test."""


def fall_idle(worker: _kernel.Arena) -> None:
    """It waits for a task, and has not come to the next one yet: as when it was woken, and does not run."""

    def wake(*_: object) -> None:
        raise _Woken

    before = signal.signal(signal.SIGALRM, wake)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(_Woken):
            worker.next()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_more_tasks_than_idle_workers_are_news_before_any_of_them_runs(network: Network) -> None:
    a, b = network.all
    a.peer(b)
    function = function_of(a)
    fall_idle(a.worker)
    a.manager.news(10, 0)
    first = a.submit(function, 1)
    assert a.manager.news(10, 0) == []  # somebody is there for it
    second = a.submit(function, 2)
    assert a.manager.news(10, 0) == [(_kernel.NEWS_QUEUED,)]
    network.settle()
    assert [value_of(a, oid) for oid in (*first, *second)] == [1, 2]


def _kernel_id(node: Node, oid: _kernel.ObjectID) -> _kernel.ObjectID:
    """The same object as the node manager knows it."""
    return node.manager.foreign((oid.binary(), 0))
