"""A worker process from its first task to its end."""

from ray._kernel import Arena, ArenaClosed, DirectoryFull, StoreFull
from ray.core import session_state

# Brings cloudpickle, which every function needs to be unpickled: the workers are forked with it.
from ray.serialization import pickling  # noqa: F401
from ray.worker import environment
from ray.worker.execution import Executor
from ray.worker.interrupts import interrupt_user_code_only


def prepare(arena: Arena) -> Executor:
    """What all workers begin with. In the template: pages that a worker need not write stay shared."""
    record = environment.record_of(arena)
    standalone = not record["driver_pid"]
    session = environment.joined(arena, record)
    return Executor(session, record["job"], record["logs"] if standalone else "")


def main(executor: Executor) -> None:
    """Runs tasks, or one actor, until the kernel has no more work for this process.

    Called in a freshly forked process that has registered as a worker; owns its main thread."""
    arena = executor.session.arena
    session_state.enter(executor.session)
    environment.reseed()
    interrupt_user_code_only(executor)
    arena.set_helper(executor.help)
    data: bytes | None = None
    fmt = 0
    try:
        while not executor.ended:
            try:
                work = arena.next(data, fmt)
            except (StoreFull, DirectoryFull):  # the last task's small result found no room
                executor.finish([(data, fmt, None)])
                data = None
                continue
            if work is None:
                break
            data, fmt = executor.run(*work)
            # An idle worker keeps nobody's arguments.
            del work
    except ArenaClosed:
        pass
    finally:
        environment.flush()
