"""What node managers say to each other, with real arenas and links that lose what is on them."""

import tempfile

import pytest

from ray import _kernel
from ray.node.cluster.peers import COPIES_AT_ONCE
from ray.node.cluster.tasks import COPY_BYTES
from ray.wire import messages
from tests.core.nodes import RAW, Host, decoded, encoded
from tests.node.cluster.worlds import Member, World

LARGE = 200_000


def function_of(member: Member) -> _kernel.ObjectID:
    return member.node.driver.put(encoded(1), RAW)


def number(member: Member, oid: _kernel.ObjectID) -> int:
    fmt, data = member.node.driver.get(oid, 0)
    assert fmt == RAW
    return decoded(data)


def failure(member: Member, oid: _kernel.ObjectID) -> int:
    fmt, data = member.node.driver.get(oid, 0)
    assert fmt == _kernel.FORMAT_SYSTEM
    return int.from_bytes(bytes(data)[:4], "little")


def sent(count: int, number: int = 3, size: int = 16) -> tuple[World, _kernel.ObjectID, _kernel.ObjectID]:
    """A task of the first of so many nodes is on its way to the second; its function and its result."""
    world = World(count)
    a, b = world.members[:2]
    function = function_of(a)
    (result,) = a.node.submit(function, number, size=size)
    assert a.offload(b) == 1
    return world, function, result


def stored(
    count: int, number: int = 3, size: int = LARGE
) -> tuple[World, _kernel.ObjectID, _kernel.ObjectID]:
    """The same, done: its large result is there, and the first node knows so."""
    world, function, result = sent(count, number, size)
    world.settle(works=True)
    a = world.members[0]
    assert not a.node.driver.is_ready(result)
    assert a.arena.location(a.arena.foreign((result.binary(), 0))) is not None
    return world, function, result


def used_at(
    c: Member, a: Member, function: _kernel.ObjectID, oid: _kernel.ObjectID
) -> list[_kernel.ObjectID]:
    """An id of the other's goes to `c` inside a task, and is an argument there: the result of that, and
    what else is held."""
    (passed_on,) = a.node.submit(function, 2, nested=[oid])
    a.offload(c)
    a.world.settle()
    borrowed = c.node.driver.foreign((oid.binary(), c.node.peer(a.node)))
    (used,) = c.node.submit(function_of(c), 0, [borrowed])
    return [used, borrowed, passed_on]


def everything_is_gone(world: World) -> None:
    for member in world.members:
        member.exchange.jobs.functions.clear()  # they stay for their job's next tasks
    world.kept.clear()  # and what nodes that died had been lent, for a time of grace
    world.settle()
    for member in world.members:
        member.node.check()
        counts = member.node.counts()
        counts["processes"] -= len(member.arena.peers()) + len(member.arena.guests())
        assert counts == member.node.baseline


def test_a_task_runs_elsewhere() -> None:
    world = World(2)
    a, b = world.members
    function = function_of(a)
    argument = a.node.driver.put(encoded(20), RAW)
    (result,) = a.node.submit(function, 3, [argument])
    assert a.offload(b) == 1
    world.settle(works=True)
    assert number(a, result) == 23
    assert [job.sys_path for job in b.learned] == [["/a/folder"]]
    del argument, result, function
    everything_is_gone(world)


@pytest.mark.parametrize("lost", ["on the way there", "on the way back"])
def test_what_a_link_loses_is_made_good(lost: str) -> None:
    world, function, result = sent(2)
    a, b = world.members
    if lost == "on the way back":
        world.settle()
        b.node.work()
        b.look()
    world.cut(a, b)
    world.connect(a, b)
    world.settle()
    if lost == "on the way there":
        assert a.node.work()
    world.settle()
    assert number(a, result) == 3
    del result, function
    everything_is_gone(world)


def test_a_large_result_stays_until_it_is_wanted() -> None:
    world, function, result = stored(2)
    a = world.members[0]
    (sum_of_both,) = a.node.submit(function, 1, [result])
    world.settle(works=True)
    assert number(a, sum_of_both) == 4
    assert number(a, result) == 3
    del result, sum_of_both, function
    everything_is_gone(world)


def test_a_large_result_lost_with_its_node_is_made_again() -> None:
    world, function, result = stored(3)
    a, b, c = world.members
    (after,) = a.node.submit(function, 1, [result])
    world.kill(b)
    world.settle()
    a.offload(c)
    world.settle(works=True)
    assert number(a, after) == 4
    del result, after, function
    everything_is_gone(world)


def run_one(world: World, function: _kernel.ObjectID, size: int) -> None:
    """A task of the first node's at the second, without a tick."""
    a, b = world.members
    (result,) = a.node.submit(function, 1, size=size)
    assert a.offload(b) == 1
    while not a.node.driver.is_ready(result):
        world.deliver()
        b.node.work()
        b.exchange.on_news(b.arena.news(1000, 0))


def lent(owner: Member, peer: Member) -> int:
    return len(owner.arena.loans(owner.node.peer(peer.node)))


def test_small_results_are_returned_many_at_a_time() -> None:
    world = World(2)
    a, b = world.members
    function = function_of(a)
    for count in range(1, COPIES_AT_ONCE + 1):
        run_one(world, function, 16)
        assert lent(b, a) == count
    run_one(world, function, 16)
    assert lent(b, a) == 1  # the others went with its task
    world.settle()
    assert lent(b, a) == 0  # with the tick
    run_one(world, function, COPY_BYTES + 1)
    run_one(world, function, 16)
    assert lent(b, a) == 1  # not the large one, which does not wait
    del function
    everything_is_gone(world)


def test_a_task_that_may_be_known_where_it_goes_comes_behind_what_is_returned() -> None:
    world = World(2)
    a, b = world.members
    function = function_of(a)
    run_one(world, function, 16)
    (result,) = a.node.submit(function, 1)
    peer = a.exchange.peers.by_node[b.id]
    ((shape, *_),) = a.arena.queues()
    (task,) = a.arena.send_tasks(peer.number, shape, 1)
    attempt = 10
    assert task[attempt] == 0
    again = (*task[:attempt], 1, *task[attempt + 1 :])
    a.exchange.tasks.run(peer, [again])
    (queue,) = (queues[b.id] for queues in world.links.values())
    kinds = [type(message) for body in queue for message in messages.decode(body)]
    assert kinds == [messages.Return, messages.Run]
    world.settle(works=True)
    assert number(a, result) == 1
    del function, result
    everything_is_gone(world)


def test_an_id_in_a_result_is_borrowed_from_its_owner() -> None:
    world, function, result = sent(3)
    a, b, c = world.members
    world.settle()
    assert b.node.work(inner=77)
    world.settle()
    assert number(a, result) == 3
    (passed_on,) = a.node.submit(function, 5, nested=[result])
    a.offload(c)
    world.settle(works=True)
    assert number(a, passed_on) == 5
    del result, passed_on, function
    everything_is_gone(world)


def test_a_value_is_asked_for_before_it_is_made() -> None:
    world, function, first = sent(3)
    a, _, c = world.members
    held = used_at(c, a, function, first)
    world.settle(works=True)
    assert number(a, first) == 3
    assert number(c, held[0]) == 3
    del first, function, held
    everything_is_gone(world)


def test_an_owner_dies_and_its_ids_fail() -> None:
    world, function, result = sent(2)
    a, b = world.members
    waits = a.node.submit(function, 4, nested=[result])[0]
    a.offload(b)
    world.settle()
    foreign = b.arena.foreign((result.binary(), b.node.peer(a.node)))
    world.kill(a)
    world.settle()
    assert b.arena.guests() == []
    del foreign, result, waits, function


def test_who_joins_anew_says_with_which_node_an_id_was_lost() -> None:
    world = World(2)
    a, b = world.members
    value = a.node.driver.put(encoded(9), RAW)
    waits = a.node.submit(function_of(a), 4, nested=[value])[0]
    a.offload(b)
    world.settle()
    borrowed = b.node.driver.foreign((value.binary(), b.node.peer(a.node)))
    kept = b.exchange.end_incarnation(lambda node: f"node {node.hex()}")
    fmt, data = b.node.driver.get(borrowed, 0)
    assert fmt == _kernel.FORMAT_SYSTEM
    assert f"node {a.id.hex()}".encode() in bytes(data)
    del value, waits, borrowed, kept, data


def test_a_new_node_manager_goes_on() -> None:
    world = World(2)
    a, b = world.members
    function = function_of(a)
    results = [a.node.submit(function, i)[0] for i in range(4)]
    a.offload(b, most=2)
    world.settle()
    b.node.work()
    a.restart()
    b.node.work()
    b.restart()
    world.settle(works=True)
    assert [number(a, result) for result in results] == [0, 1, 2, 3]
    del results, function
    everything_is_gone(world)


def test_the_end_of_a_driver_ends_its_guest() -> None:
    world, function, result = sent(2)
    a, b = world.members
    world.settle()
    assert len(b.arena.guests()) == 1
    del result, function
    a.node.driver.leave()
    a.exchange.jobs.on_ended()
    world.settle()
    assert b.arena.guests() == []


def test_a_large_result_that_is_wanted_here_and_elsewhere() -> None:
    """Both are told where it is, though an object is in the list of news but once."""
    world, function, first = sent(3, size=LARGE)
    a, _, c = world.members
    (here,) = a.node.submit(function, 1, [first])
    held = used_at(c, a, function, first)
    world.settle()
    world.settle(works=True)
    assert number(a, here) == 4
    assert number(c, held[0]) == 3
    del first, here, function, held
    everything_is_gone(world)


def test_a_value_that_is_not_there_any_more_is_had_from_its_owner() -> None:
    world, function, first = stored(3)
    a, _, c = world.members
    held = used_at(c, a, function, first)
    c.look()
    a.look()
    to = world.links[frozenset((a.id, c.id))]
    for message in messages.decode(to[a.id].popleft()):
        a.exchange.on_message(c.id, message)
    told = list(to[c.id])  # that it is at b
    to[c.id].clear()
    (here,) = a.node.submit(function, 1, [first])
    world.settle()
    assert a.node.driver.is_ready(first)
    to[c.id].extend(told)
    world.settle(works=True)
    assert number(c, held[0]) == 3
    assert number(a, here) == 4
    del first, here, function, held
    everything_is_gone(world)


def test_a_node_that_leaves_gives_back_what_it_has_not_begun() -> None:
    world = World(2)
    a, b = world.members
    function = function_of(a)
    arguments = [a.node.driver.put(encoded(each), RAW) for each in range(4)]
    results = [a.node.submit(function, 3, [each])[0] for each in arguments]
    assert a.offload(b) == 4
    world.settle()
    b.exchange.tasks.is_leaving = True
    b.exchange.tasks.give_back()
    world.settle()
    assert a.arena.away(1) == []
    assert a.offload(b) == 4  # it has not heard yet, and is told
    world.settle()
    assert b.node.counts()["tasks"] == 0
    while a.node.work():
        continue
    assert [number(a, each) for each in results] == [3, 4, 5, 6]
    del arguments, results, function


@pytest.mark.parametrize("is_known", [False, True])
def test_a_task_of_a_node_that_comes_back_as_another(is_known: bool) -> None:
    """It is sent again, where it was before. Whoever has kept its result has kept the first one."""
    world, function, result = sent(2)
    a, b = world.members
    world.settle()
    assert b.node.work()
    held = b.node.driver.foreign((result.binary(), b.node.peer(a.node))) if is_known else None
    world.rejoin(a)
    assert a.offload(b) == 1
    world.settle()
    assert b.node.work() != is_known
    world.settle()
    assert number(a, result) == 3
    del result, function, held
    world.kept.clear()
    everything_is_gone(world)


def follows(member: Member) -> None:
    """Whatever waits for a value that is stored elsewhere is sent there."""

    def send(oid: _kernel.ObjectID, node: bytes, size_bytes: int) -> bool:
        assert size_bytes == LARGE
        for shape, _, _, _, waiting, _ in member.arena.followers(oid):
            assert len(member.exchange.tasks.send_followers(node, oid, shape, waiting)) == waiting
        return True

    member.exchange.wanted.on_located = send


def test_tasks_go_to_where_their_argument_is() -> None:
    world, function, large = stored(2, 4)
    a, b = world.members
    follows(a)
    results = [a.node.submit(function, n, [large])[0] for n in range(2)]
    world.settle()
    assert len(a.arena.away(a.exchange.peers.by_node[b.id].number)) == 2 + 1  # one is the value's lineage
    assert a.arena.location(a.arena.foreign((large.binary(), 0))) is not None  # nothing was fetched
    results += a.node.submit(function, 2, [large])  # which is news again
    world.settle(works=True)
    assert [number(a, result) for result in results] == [4, 5, 6]
    del large, results, function
    everything_is_gone(world)


@pytest.mark.parametrize("dies", [False, True])
def test_a_task_that_has_followed_its_argument_comes_back(dies: bool) -> None:
    world, function, large = stored(2, 4)
    a, b = world.members
    follows(a)
    (result,) = a.node.submit(function, 3, [large])
    world.settle()
    a.exchange.wanted.on_located = lambda oid, node, size_bytes: False
    if dies:
        world.kill(b)
    else:
        b.exchange.tasks.give_back()
    world.settle(works=True)
    assert number(a, result) == 7
    a.node.check()
    del large, result, function
    everything_is_gone(world)


def test_a_task_that_waits_for_more_does_not_follow() -> None:
    world, function, large = stored(2, 4)
    a = world.members[0]
    (later,) = a.node.submit(function, 5)
    follows(a)
    (result,) = a.node.submit(function, 3, [large, later])
    world.settle(works=True)
    assert number(a, result) == 4 + 5 + 3
    del large, later, result, function
    everything_is_gone(world)


def known_at(
    b: Member,
    a: Member,
    function: _kernel.ObjectID,
    deps: list[_kernel.ObjectID],
    nested: list[_kernel.ObjectID],
) -> _kernel.ObjectID:
    """Of these, which come to that node with a task that is done there: it knows the first."""
    (oid,) = deps or nested
    a.node.submit(function, 1, deps, nested)
    assert a.offload(b) == 1
    a.world.settle()
    known = b.node.driver.foreign((oid.binary(), 0))
    a.world.settle(works=True)
    return known


def test_what_another_has_passed_on_too_late_for_its_owner_is_had_from_that_one() -> None:
    world = World(3)
    a, b, c = world.members
    function, others = function_of(a), function_of(b)
    late = a.node.driver.put(encoded(20, LARGE), RAW)
    passed_on = known_at(b, a, function, [late], [])
    world.cut(a, c)
    (second,) = b.node.submit(others, 5, [passed_on])
    assert b.offload(c) == 1
    world.settle()
    world.kill(a)
    world.settle(works=True)
    assert number(b, second) == 25
    del passed_on, second, others, function, late
    everything_is_gone(world)


def test_what_nobody_has_is_lost_with_its_owner() -> None:
    world = World(3)
    a, b, c = world.members
    function, others = function_of(a), function_of(b)
    lost = a.node.driver.reserve()
    passed_on = known_at(b, a, function, [], [lost])
    world.cut(a, c)
    b.node.submit(others, 5, None, [passed_on])
    assert b.offload(c) == 1
    world.settle()
    there = c.node.driver.foreign((lost.binary(), 0))
    world.kill(a)
    world.settle(works=True)
    assert failure(b, passed_on) == failure(c, there) == _kernel.OBJECT_LOST
    del passed_on, there, others, function, lost
    everything_is_gone(world)


def _copied(size: int = 0) -> tuple[World, _kernel.ObjectID, _kernel.ObjectID, _kernel.ObjectID]:
    """A value that a has put; b knows the id only, c has a copy."""
    world = World(3)
    a, b, c = world.members
    function = function_of(a)
    put = a.node.driver.put(encoded(20, size), RAW)
    known = known_at(b, a, function, [], [put])
    copy = known_at(c, a, function, [put], [])
    assert c.node.driver.is_ready(copy)
    assert not b.node.driver.is_ready(known)
    return world, put, known, copy


@pytest.mark.parametrize("size", [0, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("first", ["both", "who asks", "who has it"])
def test_a_copy_at_a_third_node_is_found_when_the_owner_dies(first: str, size: int) -> None:
    world, put, known, copy = _copied(size)
    a, b, c = world.members
    order = {"both": [b, c], "who asks": [b], "who has it": [c]}[first]
    del put
    for member in order:
        world.kept.append(member.exchange.on_death(a.id))
    if first != "both":
        world.settle()  # the others have not heard of it
    world.kill(a)
    world.settle(works=True)
    assert number(b, known) == number(c, copy) == 20
    b.node.check()
    c.node.check()
    del known, copy
    everything_is_gone(world)


def test_a_copy_is_found_at_a_node_that_was_never_linked() -> None:
    world, put, known, copy = _copied()
    a, b, c = world.members
    del put
    world.cut(b, c)
    world.kill(a)
    b.look()
    world.connect(b, c)
    world.settle(works=True)
    assert number(b, known) == number(c, copy) == 20
    del known, copy
    everything_is_gone(world)


def test_who_has_said_that_it_has_a_copy_and_dies_is_not_waited_for() -> None:
    world, put, known, copy = _copied()
    a, b, c = world.members
    del put, copy
    world.kill(a)
    for _ in range(3):  # until it has said so, or has sent it
        world.deliver()
    world.kill(c)
    b.look()
    assert b.node.driver.is_ready(known)
    assert not b.exchange.orphans
    del known
    everything_is_gone(world)


def test_a_node_that_knows_nothing_of_an_id_says_so_and_keeps_nothing() -> None:
    world = World(2)
    a, b = world.members
    objects = b.arena.stats()["objects"]
    b.exchange.on_message(a.id, messages.AskCopies(bytes(20), [bytes(range(20))]))
    queue = world.links[frozenset((a.id, b.id))][a.id]
    assert messages.decode(queue.pop()) == [messages.Copies(bytes(20), [])]
    b.look()
    assert b.arena.stats()["objects"] == objects
    everything_is_gone(world)


def test_who_says_what_it_has_brings_nothing_back_from_the_spill_file() -> None:
    """It says so on its event loop's thread, which must not wait for a disk."""
    world, put, known, copy = _copied(LARGE)
    a, b, c = world.members
    with tempfile.TemporaryFile() as file:
        c.arena.set_spill_file(file.fileno(), 8 << 20)
        while c.arena.spill(8 << 20):
            pass
    assert c.arena.stats()["spill_file_used_bytes"] >= LARGE
    c.exchange.on_message(b.id, messages.AskCopies(a.id, [copy.binary()]))
    c.exchange.on_message(b.id, messages.Want([copy.binary()]))
    copies, values = (
        message for said in world.links[frozenset((b.id, c.id))][b.id] for message in messages.decode(said)
    )
    assert copies == messages.Copies(a.id, [copy.binary()])
    assert isinstance(values, messages.Values)
    assert [(value.size, value.data) for value in values.values] == [(LARGE, None)]
    assert c.arena.stats()["restored_bytes"] == 0
    del put, known, copy
    everything_is_gone(world)


def test_an_actor_ends_though_its_return_was_lost() -> None:
    world = World(2)
    a, b = world.members
    actor = a.node.create(function_of(a))
    assert a.offload(b) == 1
    world.settle()
    host = Host(b.node)
    world.until(lambda: b.arena.stats()["tasks_done"] == 1)
    del actor
    a.look()  # says so
    world.cut(a, b)
    world.connect(a, b)
    world.until(lambda: not host.is_alive())
    everything_is_gone(world)
