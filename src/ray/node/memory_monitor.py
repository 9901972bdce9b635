"""Stopping one task before memory runs out, and starting it again when there is some.

The system's own killer takes whom it likes, and says nothing to anybody.  Here it is one worker at a
time, the one whose loss costs least; its failure says why; and nobody else is stopped before its memory
has come back.  In a thread of its own, since it sleeps little when there is little room.
"""

import contextlib
import threading

from ray import _kernel
from ray.config import Config
from ray.core.names import name_behind
from ray.errors import MemoryShortage, SerializationError
from ray.node.memory_holders import Holders, Running, store_bytes
from ray.node.memory_limits import MemoryLimits
from ray.node.process_tree import ProcessTree, now_ms
from ray.policy.memory import (
    LATEST_MS,
    LITTLE_OF_LIMIT,
    SOONEST_MS,
    Allowance,
    Pause,
    Rank,
    Worker,
    choose,
    next_look_ms,
    runs_again,
    tightest,
)
from ray.serialization.formats import OUT_OF_MEMORY
from ray.serialization.shortages import Stopped
from ray.session import processes
from ray.session.machine import NO_LIMIT_BYTES
from ray.session.say import say

LARGEST = 3  # so many other holders are named
GONE_MS = 10_000  # for a killed process to give back what it held: many GiB take a while
OLD_LOOKS = 5  # the session's processes are looked for again after so many looks at what they hold
THE_SESSION = "this session"
NO_ROOM = (_kernel.StoreFull, _kernel.TableFull, _kernel.SpillFailed)


class MemoryMonitor:
    def __init__(self, arena: _kernel.Arena, config: Config, keeper: int, limits: MemoryLimits) -> None:
        self.arena = arena
        self.config = config
        self.keeper = keeper
        self.limits = limits
        self.pause = Pause(now_ms(), config.memory_pause_ms)
        self._holders: Holders | None = None
        self._looks = 0
        self._said = False  # that nobody can be stopped; once for each shortage
        self._stop = threading.Event()

    def stop(self) -> None:
        """Returns at once; `run` does when it has looked once more."""
        self._stop.set()

    def run(self) -> None:
        """Until it is told to stop, or the arena is shut. In a thread of its own: it sleeps, and kills."""
        pause_ms = 0
        while not self._stop.wait(pause_ms / 1000):
            try:
                pause_ms = self.look()
            except _kernel.ArenaClosed:
                return
            except OSError:
                pause_ms = LATEST_MS  # no file could be opened, say; that may be over by then

    def look(self) -> int:
        """Looks once, and does what has to be done; returns after how many ms to look again."""
        tight = tightest(self._allowances())
        room = tight.room_bytes if tight else NO_LIMIT_BYTES
        if tight and room <= 0:
            self._relieve(tight)
        else:
            self._said = False
        pause_ms = next_look_ms(room)
        if self.arena.resting:
            pause_ms = min(pause_ms, 2 * SOONEST_MS)
            if self.pause.is_over(now_ms(), room):
                self.arena.resume()
                self.pause = Pause.after_start(now_ms(), self.config.memory_pause_ms)
        return pause_ms

    def _allowances(self) -> list[Allowance]:
        found = self.limits.look(now_ms())
        if limit := self.config.memory_limit_bytes:
            if self._holders is None or self._looks % OLD_LOOKS == 0:
                self._holders = Holders(self.arena, self.keeper)
            self._looks += 1
            found.append(Allowance(THE_SESSION, self._holders.session_bytes(), limit, limit))
        return found

    # --- stopping ---

    def _relieve(self, tight: Allowance) -> None:
        self._holders = holders = Holders(self.arena, self.keeper)
        chosen = choose(holders.workers(), tight.limit_bytes)
        if chosen is None:
            self._say_once(tight, holders)
            return
        with ProcessTree(holders.trees[chosen.pid]) as tree:
            pidfd = tree.fds.get(chosen.pid)
            if pidfd is not None and self._stop_worker(tight, holders, chosen, pidfd):
                tree.kill()
                tree.wait(GONE_MS)

    def _stop_worker(self, tight: Allowance, holders: Holders, chosen: Worker, pidfd: int) -> bool:
        """False when it does something else by now."""
        again = runs_again(chosen, self.config.memory_retry_limit)
        stopped = self._stopped(tight, holders, chosen)
        report = None
        with contextlib.suppress(*NO_ROOM):  # then it is told less
            report = self.arena.put(stopped.encode(), OUT_OF_MEMORY)
        if not self.arena.stop(chosen.pid, chosen.key, pidfd, report, again):
            return False
        self.pause = Pause.after_stop(now_ms(), self.config.memory_pause_ms, chosen.stops)
        name = f"{stopped.function_name!r} in " if stopped.function_name else "idle worker "
        if again:
            say(f"{name}process {chosen.pid} {stopped.shortage} It will run again.")
        elif not holders.running[chosen.pid].since_ns:  # a task that fails says so to its driver
            say(f"{name}process {chosen.pid} {stopped.shortage}")
        return True

    def _stopped(self, tight: Allowance, holders: Holders, chosen: Worker) -> Stopped:
        running = holders.running[chosen.pid]
        shortage = MemoryShortage(
            what=tight.what,
            used_bytes=tight.used_bytes,
            limit_bytes=tight.limit_bytes,
            act_bytes=tight.act_bytes,
            held_bytes=chosen.held_bytes,
            others=self._others(tight, holders, chosen.pid),
            stops=chosen.stops + 1,
            setting="memory_limit_bytes" if tight.what == THE_SESSION else "memory_fraction",
        )
        return Stopped(self._name(running), chosen.rank == Rank.ACTOR, chosen.pid, shortage)

    def _others(self, tight: Allowance, holders: Holders, but: int) -> tuple[tuple[str, int], ...]:
        everybody = tight.what != THE_SESSION
        found = [(self._named(holders, pid), held) for pid, held in holders.largest(but, LARGEST, everybody)]
        found.append(("the object store", store_bytes(self.arena)))
        large = [other for other in found if other[1] >= tight.limit_bytes // LITTLE_OF_LIMIT]
        return tuple(sorted(large, key=lambda other: -other[1])[:LARGEST])

    def _named(self, holders: Holders, pid: int) -> str:
        if pid in holders.running:
            name = self._name(holders.running[pid])
            return f"{name!r} in process {pid}" if name else f"idle worker {pid}"
        if pid in holders.drivers:
            return f"the driver {pid}"
        return f"process {pid} ({processes.name(pid)})"

    def _name(self, running: Running) -> str:
        """Of the function or class; "" if it can't be told."""
        try:
            return name_behind(self.arena, running.function_id)
        except SerializationError:
            return ""

    def _say_once(self, tight: Allowance, holders: Holders) -> None:
        if self._said:
            return
        self._said = True
        others = ", ".join(f"{name} {held >> 20:,} MiB" for name, held in self._others(tight, holders, 0))
        say(
            f"{tight.what} has {tight.used_bytes >> 20:,} of {tight.limit_bytes >> 20:,} MiB in use, and no "
            f"task holds enough to be worth stopping. The largest are: {others}."
        )
