"""Where do the microseconds of one noop task go, and do the parts add up to what is measured?"""

import itertools
import os
import pickle
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bars import SECONDS, Row, Unit
from work import hold, noop

from questions import ENOUGH_S, Repeats, check
from questions.queued_tasks import release

STEPS = {
    "remote_python": "driver: `f.remote()` in Python",
    "submit_call": "driver: the native call of submit, its arguments and the id",
    "submit_tables": "driver: submit: ids, records, queue",
    "get_python": "driver: `ray.get` in Python",
    "get_call": "driver: the native call of get, the value copied out",
    "get_unpickle": "driver: the result unpickled",
    "drop_call": "driver: the id dropped, its object freed, 48 in a transaction",
    "next_tables": "worker: seal, complete, take: records, queues, resources",
    "result_pickled": "worker: the result pickled",
    "worker_python": "worker: the rest: Python and the native call of next",
    "mutexes": "mutex, twice: locked and unlocked, uncontended",
    "undo_log": "undo log of submit and next",
    "publish": "result published, driver told, nobody asleep",
}
SUMS = {
    "driver": "sum: driver",
    "worker": "sum: worker",
    "pipelined_floor": "pipelined, if nothing got in the way: the driver, or all of it over the cores",
    "pipelined_measured": "pipelined, measured: of 10,000 with 2 workers",
    "sync_floor": "one at a time: all of it, and handing over twice between two cores that spin",
    "sync_measured": "one at a time, measured: median",
}
MACHINE = {
    "hand_over_spinning": "a word handed to a process that spins",
    "hand_over_sleeping": "the same, to one that sleeps (futex)",
    **{
        f"contended_{n}": f"a transaction of ten records, processes at the one mutex: {n}"
        for n in (1, 2, 4, 8, 16, 32, 64)
    },
}
HELD = {"under_mutex": "submit, next and the share of the freeing: mutex held almost all of it"}
COUNTS = {
    "undo_records": ("undo records of submit and next", Unit("records")),
    "saturating_cores": (
        "cores whose noop tasks would keep the mutex busy",
        Unit("cores", more_is_better=True),
    ),
}
ROWS = [
    *(Row(name, title, SECONDS) for name, title in {**STEPS, **SUMS, **HELD, **MACHINE}.items()),
    *(Row(name, title, unit) for name, (title, unit) in COUNTS.items()),
]
GROUP = "Where the microseconds of a task go"
NEEDS: set[str] = set()
OURS_ONLY = True
ROOT = Path(__file__).parents[2]
COMPILE = ["g++", "-O3", "-DNDEBUG", "-std=c++20", "-pthread", f"-I{ROOT / 'kernel'}"]
SOURCE = ROOT / "benchmarks" / "kernel_costs.cpp"
TRIPS = ("submit", "next")  # through the mutex
TASKS = 5000
BATCH = 10_000
SYNC_CALLS = 2000


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {row.name: [] for row in ROWS}
    with tempfile.TemporaryDirectory() as folder:
        programs = [compiled(folder, *flags) for flags in ((), ("-DRAY_CRASH_POINTS=1",))]
        for _ in repeats:
            kernel, undone = (costs_of(program) for program in programs)
            for name, figure in modelled(peer, kernel, undone).items():
                figures[name].append(figure)
    return figures


def compiled(folder: str, *flags: str) -> Path:
    program = Path(folder) / f"kernel_costs{len(flags)}"
    subprocess.run([*COMPILE, *flags, str(SOURCE), "-o", str(program)], check=True)
    return program


def costs_of(program: Path) -> dict[str, float]:
    done = subprocess.run([str(program)], check=True, stdout=subprocess.PIPE, text=True)
    return {name: float(figure) for name, figure in (line.split() for line in done.stdout.splitlines())}


def modelled(peer: Any, kernel: dict[str, float], undone: dict[str, float]) -> dict[str, float]:
    """Seconds."""
    ns = {name: figure * 1e-9 for name, figure in kernel.items()}
    python = driver_and_worker(peer)
    found = {name: ns[name] for name in MACHINE}
    found["undo_records"] = sum(undone[trip] for trip in TRIPS)
    undo = {trip: undone[trip] * ns["undo_record"] for trip in TRIPS}
    found["mutexes"] = len(TRIPS) * ns["transaction"]
    found["undo_log"] = sum(undo.values())
    found["publish"] = ns["publish_and_wake"]
    found["submit_tables"] = ns["submit"] - ns["transaction"] - undo["submit"]
    found["next_tables"] = ns["next"] - ns["transaction"] - undo["next"] - ns["publish_and_wake"]
    found["remote_python"] = python["remote"] - python["arena_submit"]
    found["submit_call"] = python["arena_submit"] - ns["submit"]
    found["get_python"] = python["get"] - python["arena_get"] - python["unpickle"]
    found["get_call"] = python["arena_get"]
    found["get_unpickle"] = python["unpickle"]
    found["drop_call"] = python["drop"]
    found["result_pickled"] = python["pickle"]
    found["worker_python"] = python["worker"] - ns["next"] - python["pickle"]
    driver, worker = python["remote"] + python["get"] + python["drop"], python["worker"]
    cores = len(os.sched_getaffinity(0))
    found["driver"], found["worker"] = driver, worker
    found["under_mutex"] = sum(ns[trip] for trip in TRIPS) + ns["drop"]
    found["saturating_cores"] = (driver + worker) / found["under_mutex"]
    found["pipelined_floor"] = max(driver, (driver + worker) / min(cores, 3))
    found["pipelined_measured"] = python["pipelined"]
    found["sync_floor"] = driver + worker + 2 * ns["hand_over_spinning"]
    found["sync_measured"] = python["sync"]
    return found


def driver_and_worker(peer: Any) -> dict[str, float]:
    """Seconds a task, each part by itself: the driver while the worker is held up, then the worker."""
    system = peer.start(1)
    held_up(system)  # memory that is touched for the first time costs more
    found = held_up(system)
    found["pickle"] = per_act_s(lambda: pickle.dumps(b"ok", 5), TASKS)
    task = system.remote(noop)
    took = []
    for _ in range(SYNC_CALLS):
        began = time.perf_counter()
        system.get(task.remote())
        took.append(time.perf_counter() - began)
    found["sync"] = statistics.median(took)
    peer.stop()
    system = peer.start()
    task = system.remote(noop)
    check(system.get([task.remote() for _ in range(BATCH)]), [b"ok"] * BATCH)
    found["pipelined"] = per_act_s(lambda: system.get([task.remote() for _ in range(BATCH)]), 1) / BATCH
    peer.stop()
    return found


def held_up(system: Any) -> dict[str, float]:
    from ray import _kernel

    arena: Any = _kernel.current()
    task, holder = system.remote(noop), system.remote(hold)
    check(system.get(task.remote()), b"ok")
    found: dict[str, float] = {}
    ids: list[Any] = []
    bare: list[Any] = []
    arguments = (task._bound.function, b"", None, None, 1, task._bound.shape, 3)
    with tempfile.TemporaryDirectory() as folder:
        fifo = Path(folder) / "hold"
        os.mkfifo(fifo)
        held = holder.remote(str(fifo))
        while arena.stats()["running_tasks"] == 0:
            time.sleep(ENOUGH_S)
        found["remote"] = per_act_s(lambda: ids.append(task.remote()), TASKS)
        found["arena_submit"] = per_act_s(lambda: bare.append(arena.submit(*arguments)), TASKS)
        writer = release(fifo)
        check(system.get([held, *ids, *bare])[1:], [b"ok"] * (len(ids) + len(bare)))
        os.close(writer)
    found["worker"] = worker_s(arena, task._bound.function.key)
    found["get"] = per_act_s(lambda: system.get(ids), 1) / len(ids)
    found["arena_get"] = per_act_s(lambda: arena.get_many(ids), 1) / len(ids)
    data = bytes(arena.get(ids[0])[1])
    found["unpickle"] = per_act_s(lambda: pickle.loads(data), TASKS)
    count = len(bare)
    began = time.perf_counter()
    bare.clear()
    found["drop"] = (time.perf_counter() - began) / count
    return found


def worker_s(arena: Any, key: int) -> float:
    """From one task's start to the next one's, in a worker that finds the next each time."""
    starts = sorted(start for _, _, start, _, _, function, _ in arena.events() if function == key)
    return statistics.median(later - start for start, later in itertools.pairwise(starts)) / 1e9


def per_act_s(act: Callable[[], object], count: int, rounds: int = 7) -> float:
    """The median of the rounds; of a short one, without the loop's own time."""
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(count):
            pass
        empty = time.perf_counter() - began
        began = time.perf_counter()
        for _ in range(count):
            act()
        found.append((time.perf_counter() - began - empty) / count)
    return statistics.median(found)
