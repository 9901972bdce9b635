"""The template: an interpreter that has imported what workers need, and forks them.

Single-threaded, and runs no user code. Forking a warm interpreter takes under a millisecond; a new one
would take a hundred. It forks when the arena's demand says so, and buries the workers that die.
It is a subreaper as well: should the keeper be killed, it ends what the tasks have started.
"""

import contextlib
import dataclasses
import gc
import importlib
import os
import signal
import sys
import time
from types import FrameType

from ray import _kernel
from ray.config import Config
from ray.core.system_limits import refused
from ray.policy.restarts import RestartRate
from ray.policy.workers import Burst, Surplus, WorkerDemand, to_fork
from ray.session import end, processes
from ray.session.record import SessionRecord
from ray.session.say import say
from ray.session.services import GAVE_UP_STATUS, redirect_output
from ray.session.spec import KeeperSpec
from ray.worker import blas, loop
from ray.worker.execution import Executor

# What a worker frees and allocates again in every step of a loop, numpy's temporaries say, stays with it:
# else each time costs page faults, nearly half the time of a small network's gradient.
KEPT_BYTES = 32 << 20
ALLOCATOR_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
WAIT_MS = 1_000  # for a change of demand; only the time of surplus workers depends on it
FORK_PAUSE_MS = 500  # after the system has refused one
BROKEN_STATUS = 70  # of a worker that failed outside of user code (EX_SOFTWARE, sysexits.h)
# Ignored unless handled, so that it does no harm in a process that a task has started.
SIGNAL_OF_ORPHANS = signal.SIGURG


class Template:
    executor: Executor  # what workers begin with; from when the session's record is there

    def __init__(self, spec: KeeperSpec, keeper: int) -> None:
        self.spec = spec
        self.keeper = keeper
        self.config = Config.with_overrides(spec.settings)
        self.arena = _kernel.Arena.attach(spec.arena_fd)
        self.arena.register(_kernel.TEMPLATE)
        # A child's death ends the wait for demand, and one just before the wait keeps it from sleeping.
        signal.signal(signal.SIGCHLD, lambda *_: self.arena.nudge())
        signal.signal(signal.SIGTERM, self._terminate)
        self.surplus = Surplus()
        self.burst = Burst()
        # Workers that can't even start end at once, and would be forked again for ever.
        self.broken = RestartRate(
            self.config.restart_limit,
            self.config.restart_window_ms,
            self.config.restart_pause_ms,
            essential=True,
        )
        self.fork_from_ms = 0
        self.refused = False  # the last fork; said once
        self.alone_since_ms = now_ms()
        # Where they say so: a status may also be the user's, in os._exit.
        self._broken_read, self._broken_write = os.pipe()
        os.set_blocking(self._broken_read, False)
        self.starting: dict[int, int] = {}  # forked workers that have not joined the arena: pid, since when
        self.to_import = [name for name in reversed(spec.preload_later) if name not in sys.modules]

    def _terminate(self, signum: int, frame: FrameType | None) -> None:
        """From the system when the keeper has died; from others, and the keeper starts a new template."""
        if os.getppid() == self.keeper:
            os._exit(128 + signum)
        self.arena.nudge()

    def loop(self) -> None:
        """Until the session ends or the keeper dies."""
        try:
            while not self.arena.is_shut and os.getppid() == self.keeper:
                self._reap()
                pause_ms = self.fork_from_ms - now_ms()
                if pause_ms > 0:
                    self.arena.wait_demand(pause_ms)
                elif not (self._fork_and_retire() or self._import_next() or self._fork_ahead()):
                    self.arena.wait_demand(WAIT_MS)
        except _kernel.ArenaClosed:
            return

    def _reap(self) -> None:
        for pid, status in reaped():
            self.starting.pop(pid, None)
            self.arena.bury(pid, status)
        with contextlib.suppress(BlockingIOError):
            for _ in os.read(self._broken_read, 4096):
                self._pause()

    def _pause(self) -> None:
        """Raises SystemExit when there have been too many broken workers."""
        now = now_ms()
        delay_ms = self.broken.died(now)
        if delay_ms is None:
            say("worker processes keep failing outside of tasks; see what they printed.")
            raise SystemExit(1)
        self.fork_from_ms = now + delay_ms

    def _fork_and_retire(self) -> bool:
        """True when there may be more to fork at once."""
        self._look_at_starting()
        demand = self._demand()
        count = to_fork(demand)
        for _ in range(count):
            self._fork()
            if self.refused:
                break
        now = now_ms()
        self.burst = self.burst.update(demand, self.spec.num_cpus, now)
        self.surplus, extra = self.surplus.update(demand, self.spec.num_cpus, now, self.config.idle_worker_ms)
        if extra:
            self.arena.retire(extra)
        return count > 0

    def _demand(self) -> WorkerDemand:
        ready, idle, total, limit = self.arena.demand()
        return WorkerDemand(ready, idle, total, len(self.starting), self.spec.num_workers, limit)

    def _fork_ahead(self) -> bool:
        """Forks one worker for the next burst of work; False when none is wanted, or no core to spare."""
        ahead = self.burst.to_fork_ahead(self._demand(), now_ms(), self.config.idle_worker_ms)
        if not ahead or self._no_core_to_spare():
            return False
        self._fork()
        return not self.refused

    def _no_core_to_spare(self) -> bool:
        return bool(self.arena.stats()["running_tasks"] >= self.spec.num_cpus)

    def _import_next(self) -> bool:
        """Imports one of the modules that workers will need, so that demand is looked at in between.

        False when there is none left, or no core to spare."""
        if not self.to_import or self.starting or self._no_core_to_spare():
            return False
        import_for_workers(self.to_import.pop())
        if not self.to_import:
            gc.freeze()
        return True

    def _look_at_starting(self) -> None:
        if not self.starting:
            return
        for pid, _, kind, _, _ in self.arena.processes():
            if kind == _kernel.WORKER:
                self.starting.pop(pid, None)
        late = now_ms() - self.config.worker_start_ms
        for pid in [pid for pid, since in self.starting.items() if since < late]:
            say(f"worker process {pid} did not join the session in time and was killed.")
            os.kill(pid, signal.SIGKILL)

    def _fork(self) -> None:
        template = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._cannot_fork(error)
            return
        if pid:
            self.starting[pid] = now_ms()
            self.refused = False
            return
        status = BROKEN_STATUS
        try:
            self._become_worker(template)
            status = 0
        except _kernel.ArenaClosed:
            status = 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
            os.write(self._broken_write, b"x")
        finally:
            os._exit(status)

    def _cannot_fork(self, error: OSError) -> None:
        """Tasks wait for the workers that there are; without any, the session ends after `start_ms`."""
        now = now_ms()
        self.fork_from_ms = now + FORK_PAUSE_MS
        problem = refused("No further worker process can be started", error)
        if not self.refused:
            self.refused = True
            say(f"{problem} It is tried again.")
        if self.arena.demand()[2] or self.starting:
            self.alone_since_ms = now
        elif now - self.alone_since_ms > self.config.start_ms:
            record = SessionRecord.load(self.arena.session())
            reason = f"The session was ended, since it has no worker. {problem}"
            self.arena.set_session(dataclasses.replace(record, ended=reason).dump())
            raise SystemExit(GAVE_UP_STATUS)

    def _become_worker(self, template: int) -> None:
        os.setsid()
        gc.enable()
        for signum in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(signum, signal.SIG_DFL)
        end_with_session(template, self.keeper)
        processes.set_name("ray-worker")
        processes.set_oom_score(processes.OOM_SCORE_OF_WORKERS)
        redirect_output(self.spec.logs, f"worker-{os.getpid()}")
        self.arena.register(_kernel.WORKER)
        self.arena.make_current()
        loop.main(self.executor)


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def reaped() -> list[tuple[int, int]]:
    """Pid and exit status of every child that has died."""
    dead: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return dead
        if pid == 0:
            return dead
        dead.append((pid, os.waitstatus_to_exitcode(status)))


def end_with_session(template: int, keeper: int) -> None:
    """Ends this worker when it has lost its template *and* its keeper.

    The death of the template alone does no harm: the keeper adopts the worker, and its task or actor
    goes on under a new template.
    """

    def orphaned(signum: int, frame: FrameType | None) -> None:
        if os.getppid() not in (template, keeper):
            os.kill(os.getpid(), signal.SIGKILL)

    signal.signal(SIGNAL_OF_ORPHANS, orphaned)
    processes.signal_on_parent_death(template, SIGNAL_OF_ORPHANS)


def prepare(spec: KeeperSpec) -> None:
    """Imports what every worker needs, so that it is shared and paid for once."""
    if not any(name in os.environ for name in ALLOCATOR_VARIABLES):
        _kernel.keep_freed_memory(KEPT_BYTES)
    sys.argv[:] = spec.argv
    sys.modules["__main__"] = type(sys)("__main__")
    blas.begin_with_one()
    for name in spec.preload:
        import_for_workers(name)


def import_for_workers(name: str) -> None:
    with contextlib.suppress(Exception):  # the task that needs it says so better
        importlib.import_module(name)


def run(spec: KeeperSpec, keeper: int, record_fd: int) -> None:
    """The template's process; returns when the session has ended. The pipe ends when the record is there."""
    gc.disable()  # what the template makes stays, and to look for garbage in it takes a sixth of its time
    processes.become_subreaper()
    prepare(spec)
    template = Template(spec, keeper)
    os.read(record_fd, 1)
    os.close(record_fd)
    if os.getppid() != keeper:  # that is why the pipe has ended
        end.end_orphans(template.arena, spec.token)
        return
    template.executor = loop.prepare(template.arena)
    # What lives now lives for ever; left out of collections, its pages stay shared with the workers.
    gc.freeze()
    template.loop()
    if os.getppid() != keeper:
        end.end_orphans(template.arena, spec.token)
    else:
        end.wait_for_children(template.config.term_grace_ms / 1000)
