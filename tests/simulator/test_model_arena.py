"""The model is what the kernel is compared with: each of its words once."""

import pytest

from ray import _kernel
from tests.simulator.model_arena import SMALL_BYTES, Large, ModelArena, SentTask, Value, failure, return_id

B, C = b"node b", b"node c"
LARGE = Large(b"large", SMALL_BYTES + 1)


@pytest.fixture
def arena() -> ModelArena:
    arena = ModelArena(b"root")
    assert arena.enter_peer(B) == arena.enter_peer(B) == 1
    assert arena.enter_peer(C) == 2
    return arena


def sent(task: bytes, deps: "list[tuple[bytes, int]]", num_returns: int = 1) -> SentTask:
    return (task, 1, None, b"", deps, [], num_returns, 0, 0, 0, 0, 0, None, None, None, False, None, 0)


def test_the_last_reference_frees(arena: ModelArena) -> None:
    inner = arena.put(b"inner", b"1")
    outer = arena.put(b"outer", b"2", [inner])
    del inner
    assert arena.entry(b"inner") is not None
    del outer
    assert arena.is_empty()


def test_a_loan_keeps_what_is_lent(arena: ModelArena) -> None:
    oid = arena.put(b"x", b"1")
    arena.lend(1, [oid])
    del oid
    assert arena.loans(1) == [(b"x", 1)]
    arena.take_back(2, [(b"x", 1)])
    assert not arena.is_empty()
    arena.take_back(1, [(b"x", 1)])
    assert arena.is_empty()
    assert arena.problems == []


def test_what_is_gone_is_returned_to_whom_it_came_from(arena: ModelArena) -> None:
    oid = arena.foreign((b"x", 1))
    arena.note(1, [(b"x", 1)])
    arena.note(2, [(b"x", 1), (b"x", 1)])
    assert arena.notes(2) == [(b"x", 2)]
    assert arena.news(9, 0) == []
    del oid
    assert arena.news(9, 0) == [(_kernel.NEWS_GONE, b"x", 1, [(1, 1), (2, 2)], 0)]
    assert arena.is_empty()


def test_notes_are_forgotten_when_they_are_returned(arena: ModelArena) -> None:
    oid = arena.foreign((b"x", 1))
    arena.note(2, [(b"x", 1)])
    assert arena.forget_notes(2, [b"x", b"unknown"]) == [(b"x", 1)]
    assert arena.forget_notes(2, [b"x"]) == []
    assert arena.owner(oid) == 1


def test_sync_makes_loans_what_is_noted(arena: ModelArena) -> None:
    x, y = arena.put(b"x", b"1"), arena.put(b"y", b"1")
    arena.lend(1, [x, x, y])
    arena.match_loans(1, [(b"x", 1), (b"never", 3)])
    assert arena.loans(1) == [(b"x", 1)]
    del x, y
    assert arena.entry(b"y") is None


def test_a_task_goes_and_its_small_result_comes(arena: ModelArena) -> None:
    dep = arena.put(b"x", b"1")
    (result,) = arena.submit(b"t", 1, [dep], [], 1, 0)
    assert arena.send_tasks(1, 0, 5) == [sent(b"t", [(b"x", 0)])]
    assert arena.away(1) == [b"t"]
    assert arena.loans(1) == [(b"x", 1)]
    assert arena.finish_return(1, return_id(b"t", 0), 0, b"v", 1, [(b"n", 1)])
    assert not arena.finish_return(1, return_id(b"t", 0), 0, b"w", 1, [])
    assert arena.value(result).data == b"v"
    assert arena.away(1) == []
    assert arena.notes(1) == [(b"n", 1)]


def test_a_large_result_stays_and_its_task_is_its_lineage(arena: ModelArena) -> None:
    (result,) = arena.submit(b"t", 1, [], [], 1, 3)
    arena.send_tasks(1, 0, 1)
    arena.await_value(result)
    assert arena.subscribe(result)
    assert arena.finish_return(1, return_id(b"t", 0), 0, None, 1 << 20, [])
    assert arena.location(result) == (1, 1 << 20, 0)
    assert arena.away(1) == [b"t"]
    assert [item[0] for item in arena.news(9, 0)] == [_kernel.NEWS_SEALED, _kernel.NEWS_WANTED]
    arena.bury_peer(1)
    task = arena.take()
    assert task is not None
    assert task.attempt == 1
    assert arena.finish(task, [Value(0, b"again")])
    assert arena.value(result).data == b"again"


def test_a_large_result_that_nobody_wants(arena: ModelArena) -> None:
    (result,) = arena.submit(b"t", 1, [], [], 1, 3)
    arena.send_tasks(1, 0, 1)
    arena.finish_return(1, return_id(b"t", 0), 0, None, 1 << 20, [])
    del result
    assert arena.news(9, 0) == [(_kernel.NEWS_GONE, return_id(b"t", 0), 0, [], 1)]
    assert arena.is_empty()


def test_a_received_task_gives_its_results_to_its_owner(arena: ModelArena) -> None:
    arena.receive_tasks(1, [sent(b"t", [(b"inner", 1)], 2)])
    arena.receive_tasks(1, [sent(b"t", [(b"inner", 1)], 2)])
    assert arena.received(1) == [b"t"]
    inner = arena.foreign((b"inner", 1))
    arena.seal(inner, b"", 0)
    task = arena.take()
    assert task is not None
    arena.finish(task, [Value(0, b"small", (b"inner",)), Value(0, LARGE, (b"inner",))])
    del inner
    small, large = arena.news(9, 0)
    assert small == (_kernel.NEWS_DONE, 1, return_id(b"t", 0), 0, b"small", 5, [(b"inner", 1)], False, 0)
    assert large == (_kernel.NEWS_DONE, 1, return_id(b"t", 1), 0, None, len(LARGE), [(b"inner", 1)], False, 0)
    arena.renew_news(1)
    assert len(arena.news(9, 0)) == 2
    arena.take_back(1, [(return_id(b"t", 0), 1), (return_id(b"t", 1), 1)])
    assert arena.news(9, 0) == [(_kernel.NEWS_GONE, b"inner", 1, [(1, 2)], 0)]
    assert arena.received(1) == []
    assert arena.is_empty()


def test_who_keeps_a_result_for_its_owner_has_no_use_of_it(arena: ModelArena) -> None:
    """Else the owner, who has lent it here, and this node would keep it for each other."""
    arena.receive_tasks(1, [sent(b"t", [])])
    task = arena.take()
    assert task is not None
    arena.finish(task, [Value(0, LARGE)])
    arena.news(9, 0)
    arena.note(1, [(return_id(b"t", 0), 1)])
    assert arena.news(9, 0) == [(_kernel.NEWS_GONE, return_id(b"t", 0), 1, [(1, 1)], 0)]
    assert arena.received(1) == [b"t"]


def test_a_task_of_a_dead_node_is_run_again_or_fails(arena: ModelArena) -> None:
    (again,) = arena.submit(b"t", 1, [], [], 1, 1)
    (fails,) = arena.submit(b"u", 1, [], [], 1, 0)
    assert len(arena.send_tasks(1, 0, 2)) == 2
    arena.bury_peer(1)
    assert arena.value(fails) == failure(_kernel.NODE_DIED)
    assert not arena.is_ready(again)
    assert arena.ready() == 1


def test_the_objects_of_a_dead_node(arena: ModelArena) -> None:
    pending, sealed = arena.foreign((b"x", 1)), arena.foreign((b"y", 1))
    arena.seal(sealed, b"v", 0)
    arena.lend(2, [sealed])
    arena.bury_peer(1)
    assert arena.value(pending) == failure(_kernel.OBJECT_LOST)
    assert arena.value(sealed).data == b"v"
    assert arena.owner(pending) == arena.owner(sealed) == 0
    assert arena.peers() == [(2, C)]
    with pytest.raises(_kernel.StaleHandle):
        arena.note(1, [])


def test_the_tasks_of_a_driver_end_with_it(arena: ModelArena) -> None:
    job = arena.enter_guest(1, b"root of b")
    assert arena.guests() == [(job, 1, b"root of b")]
    (result,) = arena.submit(b"t", job, [], [], 1, 3)
    arena.bury_guest(job)
    arena.end_jobs()
    assert arena.value(result) == failure(_kernel.JOB_ENDED)
    assert arena.job_root(job) is None


def test_recalled_tasks_are_as_if_never_sent(arena: ModelArena) -> None:
    result = arena.submit(b"t", 1, [], [], 1, 0)
    assert arena.ready() == 1
    arena.send_tasks(1, 0, 1)
    assert arena.ready() == 0
    assert arena.recall(2, [b"t"]) == 0
    assert arena.recall(1, [b"t", b"unknown"]) == 1
    assert arena.ready() == 1
    assert len(result) == 1


def test_what_has_not_begun_is_dropped(arena: ModelArena) -> None:
    arena.receive_tasks(1, [sent(b"t", []), sent(b"u", [])])
    result = arena.foreign((return_id(b"u", 0), 1))
    arena.await_value(result)
    assert arena.take() is not None
    assert arena.drop_received(2, [b"u"]) == []
    assert arena.drop_received(1, [b"t", b"u", b"unknown"]) == [b"u"]
    assert arena.received(1) == [b"t"]
    assert [item[0] for item in arena.news(9, 0)] == [_kernel.NEWS_WANTED]


def test_what_comes_back_to_its_owner_and_is_gone_has_failed(arena: ModelArena) -> None:
    assert arena.value(arena.foreign((b"x", 0))) == failure(_kernel.OBJECT_LOST)
