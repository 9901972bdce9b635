import copy
import inspect
import pickle
import signal

import pytest

from ray import errors
from ray.errors import RayError

SHORTAGE = errors.MemoryShortage(
    "this machine",
    96 << 20,
    100 << 20,
    95 << 20,
    50 << 20,
    (("'g' in process 7", 20 << 20),),
    4,
    "memory_fraction",
)
SAMPLES = [
    RayError("something"),
    errors.ArgumentError("bad"),
    errors.ArgumentTypeError("bad type"),
    errors.InitError("called twice"),
    errors.InfeasibleResourcesError("mod.f", {"CPU": 8, "GPU": 0.5}, {"CPU": 2}),
    errors.ForkedProcessError("ray.get"),
    errors.RayConnectionError.not_started("ray.put"),
    errors.RayConnectionError.nobody_listens("127.0.0.1:6379", "refused"),
    errors.RaySystemError("the keeper did not start"),
    errors.SystemLimitError("A session can't be started", "20 open files (RLIMIT_NOFILE)", "too few"),
    errors.SessionEndedError(),
    errors.ArenaCorruptError("free list crosses itself"),
    errors.ClusterTokenError("/home/u/.config/ray/token", "there is no such file"),
    errors.PeerUnreachableError("head:6379", "refused"),
    errors.WrongTokenError("head:6379"),
    errors.IncompatiblePeerError("head:6379", "0.2.0", 1, "0.3.0", 2),
    errors.GetTimeoutError(250, 3),
    errors.ObjectLostError("ab" * 20),
    errors.ObjectLostError("ab" * 20, "10.0.0.2 (abababab)"),
    errors.ObjectStoreFullError(5 << 20, 100 << 20, 99 << 20, 10_000),
    errors.SpillError("/tmp", "No space left on device"),
    errors.TableFullError("objects", 1000),
    errors.WorkerLimitError(1024),
    errors.SerializationError("pickle", "the result of 'f'", "_thread.lock", "['a']", "TypeError: no"),
    errors.RayTaskError(
        "mod.f", "Traceback...", "KeyError", 12, "10.0.0.1", 1, KeyError("k"), ("one", "two")
    ),
    errors.WrongReturnCountError("mod.f", 3, 2, "tuple"),
    errors.WorkerCrashedError("mod.f", -9, 77, 4),
    errors.ActorDiedError("Counter.add", -11, 78),
    errors.ActorNodeDiedError("Counter.add"),
    errors.ActorKilledError("Counter.add", 79),
    errors.ActorNodeDiedError("Counter.add"),
    errors.OutOfMemoryError("mod.f", 80, SHORTAGE),
    errors.ActorOutOfMemoryError("Counter", 81, SHORTAGE),
    errors.JobEndedError("mod.f"),
    errors.NodeDiedError("mod.f"),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "duplicate", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy], ids=["pickle", "copy"]
)
def test_every_error_survives_with_its_attributes(error, duplicate):
    error.add_note("seen in a test")
    again = duplicate(error)
    assert type(again) is type(error)
    assert str(again) == str(error)
    expected, got = dict(error.__dict__), dict(again.__dict__)
    if expected.get("cause") is not None:
        assert repr(expected.pop("cause")) == repr(got.pop("cause"))
    assert got == expected
    assert repr(again.args) == repr(error.args)


def test_the_samples_above_are_all_the_errors_there_are():
    kinds = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)}
    assert all(issubclass(kind, RayError) for kind in kinds)
    assert {type(sample) for sample in SAMPLES} == kinds


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.ArgumentError, ValueError),
        (errors.ArgumentTypeError, TypeError),
        (errors.InitError, ValueError),
        (errors.RayConnectionError, ConnectionError),
        (errors.GetTimeoutError, TimeoutError),
        (errors.ActorNodeDiedError, errors.ActorDiedError),
        (errors.ActorKilledError, errors.ActorDiedError),
    ],
)
def test_errors_are_caught_as_the_builtin_that_users_expect(kind, builtin):
    assert issubclass(kind, builtin)


def test_a_full_store_names_its_sizes_and_the_advice_fits():
    text = str(errors.ObjectStoreFullError(5 << 20, 100 << 20, 99 << 20, 10_000))
    assert "5.0 MiB" in text
    assert "99.0 MiB of 100.0 MiB" in text
    assert "10000 ms" in text
    assert "Drop ids" in text
    assert "larger than the whole store" in str(errors.ObjectStoreFullError(200 << 20, 100 << 20, 0))


def test_infeasible_resources_name_what_was_asked_and_what_there_is():
    text = str(errors.InfeasibleResourcesError("mod.f", {"CPU": 8, "GPU": 0.5}, {"CPU": 2}))
    assert "CPU=8, GPU=0.5" in text
    assert "has CPU=2 in all" in text


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (-signal.SIGKILL, "was killed by SIGKILL"),
        (-signal.SIGSEGV, "was killed by SIGSEGV"),
        (-63, "was killed by signal 63"),
        (0, "exited with status 0"),
        (7, "exited with status 7"),
    ],
)
def test_a_crash_says_how_the_process_ended(status, words):
    error = errors.WorkerCrashedError("mod.f", status, 77, 4)
    assert "'mod.f'" in str(error)
    assert words in str(error)
    assert "tried 4 times" in str(error)
    assert "77" in str(error)


def test_a_task_error_shows_name_place_chain_and_traceback_in_this_order():
    error = errors.RayTaskError(
        "mod.f", "Traceback...\nKeyError: 'k'\n", "KeyError", 12, "10.0.0.1", 1, chain=("then g", "then h")
    )
    assert str(error) == (
        "'mod.f' failed in process 12 on 10.0.0.1 (attempt 2).\nthen g\nthen h\nTraceback...\nKeyError: 'k'"
    )


@pytest.mark.parametrize("kind", [errors.OutOfMemoryError, errors.ActorOutOfMemoryError])
def test_out_of_memory_says_how_much_of_what_by_whom_and_what_to_do(kind):
    text = str(kind("mod.f", 80, SHORTAGE))
    for part in (
        "'mod.f' has no result",
        "80 was stopped, 4 times so far",
        "this machine has 96.0 MiB of 100.0 MiB in use",
        "from 95.0 MiB on somebody is stopped (memory_fraction)",
        "It held 50.0 MiB; other large ones: 'g' in process 7 20.0 MiB.",
        "num_cpus",
    ):
        assert part in text
    assert "memory ran out" in str(kind("", 80))
    assert kind("", 80).shortage is None


def test_out_of_memory_is_caught_by_those_who_know_of_deaths_only():
    assert issubclass(errors.OutOfMemoryError, errors.WorkerCrashedError)
    assert issubclass(errors.ActorOutOfMemoryError, errors.ActorDiedError)
    assert issubclass(errors.OutOfMemoryError, MemoryError)
    assert issubclass(errors.ActorOutOfMemoryError, MemoryError)
