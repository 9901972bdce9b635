"""The model is what the kernel is compared with: each of its words once."""

import pytest

from tests.simulator.model_arena import (
    NEWS_DONE,
    NEWS_GONE,
    NEWS_WANTED,
    SMALL_BYTES,
    ModelArena,
    Rules,
    Value,
    return_id,
)

B, C = b"node b", b"node c"


@pytest.fixture
def arena() -> ModelArena:
    arena = ModelArena(Rules())
    assert arena.enter_peer(B) == arena.enter_peer(B) == 1
    assert arena.enter_peer(C) == 2
    return arena


def test_the_last_reference_frees(arena: ModelArena) -> None:
    inner = arena.put(b"inner", b"1", 1)
    outer = arena.put(b"outer", b"2", 1, [inner])
    del inner
    assert arena.known(b"inner") is not None
    del outer
    assert arena.is_empty()


def test_a_loan_keeps_what_is_lent(arena: ModelArena) -> None:
    oid = arena.put(b"x", b"1", 1)
    assert arena.lend(1, [b"x", b"unknown"]) == [b"x"]
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
    assert arena.news() == []
    del oid
    assert arena.news() == [(NEWS_GONE, b"x", 1, [(1, 1), (2, 2)], 0)]
    assert arena.is_empty()


def test_what_is_used_again_is_not_gone(arena: ModelArena) -> None:
    oid = arena.foreign((b"x", 1))
    del oid
    again = arena.foreign((b"x", 1))
    assert arena.news() == []
    assert arena.owner(again) == 1


def test_notes_go_back_when_the_owner_has_confirmed(arena: ModelArena) -> None:
    oid = arena.foreign((b"x", 1))
    arena.note(2, [(b"x", 1)])
    assert arena.unconfirmed() == [(b"x", 1)]
    assert arena.forget_notes(2, [b"x"]) == []
    arena.note(1, [(b"x", 1)])
    assert arena.unconfirmed() == []
    assert arena.forget_notes(2, [b"x"]) == [(b"x", 1)]
    assert arena.forget_notes(1, [b"x"]) == []
    assert arena.owner(oid) == 1


def test_sync_makes_loans_what_is_noted(arena: ModelArena) -> None:
    x, y = arena.put(b"x", b"1", 1), arena.put(b"y", b"1", 1)
    arena.lend(1, [b"x", b"x", b"y"])
    arena.match_loans(1, [(b"x", 1), (b"never", 3)])
    assert arena.loans(1) == [(b"x", 1)]
    del x, y
    assert arena.known(b"y") is None


def test_a_task_goes_and_its_small_result_comes(arena: ModelArena) -> None:
    dep = arena.put(b"x", b"1", 1)
    (result,) = arena.submit(b"t", b"", [dep], [], 1, 0)
    (sent,) = arena.send_tasks(1, 5)
    assert (sent.id, sent.deps) == (b"t", ((b"x", 0),))
    assert arena.away(1) == [b"t"]
    assert arena.loans(1) == [(b"x", 1)]
    assert arena.finish_return(1, return_id(b"t", 0), 0, b"v", 1, [(b"n", 1)])
    assert not arena.finish_return(1, return_id(b"t", 0), 0, b"w", 1, [])
    assert arena.value(result).data == b"v"
    assert arena.away(1) == []
    assert arena.notes(1) == [(b"n", 1)]


def test_a_large_result_stays_and_its_task_is_its_lineage(arena: ModelArena) -> None:
    (result,) = arena.submit(b"t", b"", [], [], 1, 3)
    arena.send_tasks(1, 1)
    arena.await_value(result)
    assert arena.finish_return(1, return_id(b"t", 0), 0, None, 1 << 20, [])
    assert arena.location(result) == 1
    assert arena.away(1) == [b"t"]
    ((kind, _),) = arena.news()
    assert kind == NEWS_WANTED
    arena.bury_peer(1)
    task = arena.take()
    assert task is not None
    assert task.attempt == 1
    assert arena.finish(task, [Value(0, b"again", 1)])
    assert arena.value(result).data == b"again"


def test_a_large_result_that_nobody_wants(arena: ModelArena) -> None:
    (result,) = arena.submit(b"t", b"", [], [], 1, 3)
    arena.send_tasks(1, 1)
    arena.finish_return(1, return_id(b"t", 0), 0, None, 1 << 20, [])
    del result
    assert arena.news() == [(NEWS_GONE, return_id(b"t", 0), 0, [], 1)]
    assert arena.is_empty()


def test_a_received_task_gives_its_results_to_its_owner(arena: ModelArena) -> None:
    owner = ModelArena(Rules())
    owner.enter_peer(b"here")
    inner = owner.put(b"inner", b"", 1)
    owner.submit(b"t", b"", [], [inner], 2, 0)
    sent = owner.send_tasks(1, 1)
    arena.receive_tasks(1, [])
    translated = [type(sent[0])(b"t", b"", (), ((b"inner", 1),), 2, 0, 0)]
    arena.receive_tasks(1, translated)
    arena.receive_tasks(1, translated)
    assert arena.received(1) == [b"t"]
    task = arena.take()
    assert task is not None
    arena.finish(task, [Value(0, b"small", 1, (b"inner",)), Value(0, b"large", SMALL_BYTES + 1, (b"inner",))])
    small, large = arena.news()
    assert small == (NEWS_DONE, 1, return_id(b"t", 0), 0, b"small", 1, [(b"inner", 1)])
    assert large == (NEWS_DONE, 1, return_id(b"t", 1), 0, None, SMALL_BYTES + 1, [])
    arena.renew_news(1)
    assert len(arena.news()) == 2
    arena.take_back(1, [(return_id(b"t", 0), 1), (return_id(b"t", 1), 1)])
    arena.news()
    assert arena.received(1) == []
    assert arena.is_empty()


def test_who_keeps_a_result_for_its_owner_has_no_use_of_it(arena: ModelArena) -> None:
    """Else the owner, who has lent it here, and this node would keep it for each other."""
    sent = ModelArena(Rules())
    sent.enter_peer(b"here")
    sent.submit(b"t", b"", [], [], 1, 0)
    arena.receive_tasks(1, sent.send_tasks(1, 1))
    task = arena.take()
    assert task is not None
    arena.finish(task, [Value(0, b"large", SMALL_BYTES + 1)])
    arena.news()
    arena.note(1, [(return_id(b"t", 0), 1)])
    assert arena.news() == [(NEWS_GONE, return_id(b"t", 0), 1, [(1, 1)], 0)]
    assert arena.received(1) == [b"t"]


def test_a_task_of_a_dead_node_is_run_again_or_fails(arena: ModelArena) -> None:
    (again,) = arena.submit(b"t", b"", [], [], 1, 1)
    (fails,) = arena.submit(b"u", b"", [], [], 1, 0)
    assert len(arena.send_tasks(1, 2)) == 2
    arena.bury_peer(1)
    assert arena.value(fails).data == b"NODE_DIED"
    assert not arena.is_ready(again)
    assert arena.ready() == 1


def test_the_objects_of_a_dead_node(arena: ModelArena) -> None:
    pending, sealed = arena.foreign((b"x", 1)), arena.foreign((b"y", 1))
    arena.seal(sealed, b"v", 0, 1, [])
    arena.lend(1, [b"y"])
    arena.bury_peer(1)
    assert arena.value(pending).data == b"OBJECT_LOST"
    assert arena.value(sealed).data == b"v"
    assert arena.owner(pending) == arena.owner(sealed) == 0
    assert arena.peers() == [(2, C)]


def test_recalled_tasks_are_as_if_never_sent(arena: ModelArena) -> None:
    arena.submit(b"t", b"", [], [], 1, 0)
    assert arena.ready() == 1
    arena.send_tasks(1, 1)
    assert arena.ready() == 0
    assert arena.recall(2, [b"t"]) == 0
    assert arena.recall(1, [b"t", b"unknown"]) == 1
    assert arena.ready() == 1


def test_an_owner_that_has_freed_what_comes_back_is_a_problem(arena: ModelArena) -> None:
    arena.foreign((b"x", 0))
    assert len(arena.problems) == 1
