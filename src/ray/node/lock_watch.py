"""Watching the arena's mutex: a holder that was stopped is continued, a worker that still holds it is killed.

The kernel of the system hands a dead holder's mutex on by itself; a *stopped* holder would keep it for
ever. In a thread of its own, since it waits under the mutex that everybody needs.
"""

import os
import signal
import threading
from typing import Protocol

from ray import _kernel
from ray.core.system_limits import start_thread
from ray.session.say import say

# What a session can replace. Drivers belong to the user: they are continued, and named, but never killed.
REPLACEABLE = (_kernel.WORKER, _kernel.TEMPLATE)
PAUSE_S = 0.5  # between two tries of the mutex


class Kinds(Protocol):
    """What each process is, as of the last look: looking it up anew needs the mutex."""

    @property
    def kinds(self) -> dict[int, int]: ...


class LockWatch:
    def __init__(self, arena: _kernel.Arena, patience_ms: int, known: Kinds) -> None:
        self.arena = arena
        self.patience_ms = patience_ms
        self.known = known
        self._beyond_reach = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ray-lock-watch", daemon=True)

    def start(self) -> None:
        start_thread(self._thread)

    def stop(self) -> None:
        """Returns at once; the thread ends when it has looked once more."""
        self._stop.set()

    def join(self) -> None:
        self._thread.join()

    def look(self) -> None:
        """Tries the mutex, for `patience_ms` at most. Who holds it all that time is told to go on; who then
        holds it as long again is dealt with. One that went on is not, whatever happens to it later."""
        holder = self.arena.lock_holder(self.patience_ms)
        if not holder or holder == os.getpid():
            return
        try:
            os.kill(holder, signal.SIGCONT)
            if self.arena.lock_holder(self.patience_ms) != holder:
                return
            if self.known.kinds.get(holder) in REPLACEABLE:
                say(f"process {holder} held the arena's lock for {2 * self.patience_ms} ms and was killed.")
                os.kill(holder, signal.SIGKILL)
            else:
                say(f"process {holder} holds the arena's lock and does not go on; all others wait for it.")
        except ProcessLookupError:
            return  # dead by now: whoever comes next inherits the lock
        except PermissionError:
            self._say_beyond_reach(holder)

    def _say_beyond_reach(self, holder: int) -> None:
        """A driver of another user may be continued by that user only; tried every PAUSE_S, said once."""
        if holder != self._beyond_reach:
            self._beyond_reach = holder
            say(
                f"process {holder}, of another user, holds the arena's lock and does not go on; all others "
                f"wait for it. Its user, or root, can continue it with 'kill -CONT {holder}', or end it."
            )

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_S):
            try:
                self.look()
            except _kernel.ArenaClosed:
                return
