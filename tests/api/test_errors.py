"""Errors of tasks: printed in the background, raised again by get, listed by error_info."""

import time
from collections.abc import Callable
from typing import Any

import pytest

import ray
from ray import errors
from tests.api.programs import Programs, wait_for

Init = Callable[..., dict[str, Any]]
pytestmark = pytest.mark.usefixtures("cluster")


class Custom(Exception):
    """With a constructor that plain unpickling would call wrongly."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"code {code}: {reason}")
        self.code = code
        self.reason = reason


@ray.remote
def divides(number: int) -> float:
    return 1 / number


@ray.remote
def raises_custom() -> None:
    raise Custom(7, reason="by design")


@ray.remote
def passes_on(value: Any) -> Any:
    return value


def listed(words: str) -> list[dict[str, Any]]:
    return [each for each in ray.error_info() if words in str(each)]


@pytest.mark.statement("errors-02", "errors-04", "more-errors-03")
def test_get_raises_again() -> None:
    """As the original type, as RayTaskError, and as any of their bases."""
    failed = divides.remote(0)
    for kind in (ZeroDivisionError, ArithmeticError, errors.RayTaskError, errors.RayError, Exception):
        with pytest.raises(kind):
            ray.get(failed)
    with pytest.raises(errors.RayTaskError) as caught:
        ray.get(failed)
    assert "divides" in caught.value.function_name
    assert "ZeroDivisionError" in caught.value.exception_type
    assert isinstance(caught.value.cause, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        ray.get([ray.put(1), failed])


@pytest.mark.statement("more-errors-03")
def test_a_users_own_exception_keeps_its_attributes() -> None:
    with pytest.raises(Custom) as caught:
        ray.get(raises_custom.remote())
    assert caught.value.code == 7
    assert caught.value.reason == "by design"
    assert isinstance(caught.value, errors.RayTaskError)


@pytest.mark.statement("more-errors-02")
def test_the_traceback_shows_what_the_user_wrote(programs: Programs) -> None:
    done = programs.run(
        """
        import ray
        ray.init(num_cpus=1)

        def helper(box):
            return box["missing"]  # the line at fault

        @ray.remote
        def task():
            return helper({})

        try:
            ray.get(task.remote())
        except KeyError as error:
            print(error)
        """
    )
    assert 'return box["missing"]  # the line at fault' in done.out
    assert "in helper" in done.out
    assert "in task" in done.out
    for ours in ("site-packages", "src/ray", "ray/worker", "execution.py", "loop.py"):
        assert ours not in done.out


@pytest.mark.statement("more-errors-04", "errors-04")
def test_a_failure_travels_through_a_chain() -> None:
    """Twenty dependent tasks, a list of ids, and a method of an actor."""

    @ray.remote
    class Actor:
        def take(self, value: Any) -> Any:
            return value

    failed = divides.remote(0)
    for _ in range(20):
        failed = passes_on.remote(failed)
    with pytest.raises(ZeroDivisionError) as caught:
        ray.get(failed)
    assert "divides" in str(caught.value)
    actor = Actor.remote()
    with pytest.raises(ZeroDivisionError):
        ray.get(actor.take.remote(failed))
    assert ray.get(actor.take.remote(1)) == 1


@pytest.mark.quiet
@pytest.mark.statement("errors-01", "errors-02", "errors-03", "errors-07", "errors-08", "more-errors-01")
def test_a_failure_is_printed_in_the_background(cluster: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Once, within a second, though its id is dropped at once."""

    @ray.remote
    def fails(word: str) -> None:
        raise Exception("This task failed!! " + word)

    fails.remote("dropped")
    printed = ""

    def look() -> bool | None:
        nonlocal printed
        printed += capfd.readouterr().err
        return "This task failed!! dropped" in printed or None

    began = time.monotonic()
    assert wait_for(look, 5)
    assert time.monotonic() - began < 1
    assert "fails" in printed
    kept = fails.remote("kept")
    with pytest.raises(Exception, match="kept"):
        ray.get(kept)
    dependent = passes_on.remote(kept)  # not news: its own failure is the same one
    with pytest.raises(Exception, match="kept"):
        ray.get(dependent)
    fails.remote("at the end")
    assert wait_for(lambda: (look(), True if "at the end" in printed else None)[1], 5)
    assert printed.count("This task failed!! dropped") == 1
    assert printed.count("This task failed!! kept") == 1


@pytest.mark.statement(
    "errors-05", "errors-06", "errors-10", "error-info-01", "error-info-02", "more-wait-06"
)
def test_error_info(cluster: Any) -> None:
    """A list in the order of the failures, from Redis as well as before they have reached it."""
    words = [f"listed {number}" for number in range(5)]

    @ray.remote
    def fails(word: str) -> None:
        raise ValueError(word)

    for word in words:
        ray.wait([fails.remote(word)])
    found = ray.error_info()
    assert isinstance(found, list)
    mine = [next(word for word in words if word in str(each)) for each in found if "listed" in str(each)]
    assert mine == words
    assert ray.error_info(worker=ray.worker.global_worker) == found
    assert ray.error_info(ray.worker.global_worker) == found


@pytest.mark.statement("errors-05")
def test_the_errors_are_in_redis(cluster: Any) -> None:
    """Found there by another process, which knows the address and is the same user."""
    from ray._kernel import current
    from ray.control_store.client import ControlStore
    from ray.session.record import SessionRecord

    @ray.remote
    def fails() -> None:
        raise ValueError("look for me in Redis")

    ray.wait([fails.remote()])
    arena = current()
    assert arena is not None
    record = SessionRecord.load(arena.session())
    store = ControlStore([record.redis_address, *record.redis_shards], record.redis_password)
    try:
        assert wait_for(
            lambda: (
                any(b"look for me in Redis" in bytes(each.data) for each in store.errors(arena.job)) or None
            ),
            5,
        )
    finally:
        store.close()


@pytest.mark.statement("more-errors-05")
def test_a_method_and_a_constructor_are_listed_too(cluster: Any) -> None:
    @ray.remote
    class Fails:
        def __init__(self, at_once: bool) -> None:
            if at_once:
                raise RuntimeError("constructed wrongly")

        def method(self) -> None:
            raise RuntimeError("called wrongly")

    ray.wait([Fails.remote(False).method.remote()])
    ray.wait([Fails.remote(True).method.remote()])
    assert wait_for(lambda: listed("called wrongly") or None, 5)
    assert wait_for(lambda: listed("constructed wrongly") or None, 5)
    assert len(listed("constructed wrongly")) == 1


@pytest.mark.statement("more-errors-16")
def test_recursion_without_end() -> None:
    @ray.remote
    def endless() -> Any:
        def down() -> Any:
            return down()

        return down()

    with pytest.raises(RecursionError):
        ray.get(endless.remote())
    assert ray.get(passes_on.remote(1)) == 1


@pytest.mark.statement("more-errors-14")
@pytest.mark.parametrize("value", [1, (1,), (1, 2, 3), None, "ab", {"a": 1, "b": 2}], ids=repr)
def test_a_wrong_number_of_returns(value: Any) -> None:
    @ray.remote(num_return_vals=2)
    def returns() -> Any:
        return value

    for object_id in returns.remote():
        with pytest.raises(errors.WrongReturnCountError, match="returns") as caught:
            ray.get(object_id)
        assert caught.value.expected == 2
