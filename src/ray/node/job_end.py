"""The end of a job: when a driver has ended, what it had begun is stopped, and nobody else's.

Its objects go with its references, as they do anyway. What serves an actor that was killed ends too: who
has killed it may be of another user, and have no right to.
"""

import os
import time

from ray import _kernel
from ray.node.memory_holders import Running
from ray.node.process_tree import ProcessTree
from ray.session import processes

ROUNDS = 20  # in one go: what is stopped may have begun something new just before


class JobEnd:
    def __init__(self, arena: _kernel.Arena) -> None:
        self.arena = arena
        # How many ended jobs are seen to; None: a node manager before this one may have been killed over it.
        self._seen: int | None = None
        self._empty = False  # the last look found nothing; once may be by chance

    def look(self, jobs_ended: int) -> None:
        """`jobs_ended` as in the arena's statistics; does nothing when it is what it was."""
        if jobs_ended == self._seen:
            return
        for _ in range(ROUNDS):
            failed, found = self.arena.end_jobs()
            if not failed and not found:
                if self._empty:
                    self._seen = jobs_ended
                self._empty = not self._empty
                return
            self._empty = False
            self._stop([Running(*each) for each in found])

    def _stop(self, found: list[Running]) -> None:
        trees = processes.trees({each.pid for each in found}) if found else {}
        for each in found:
            started = {each.pid, *_since(trees[each.pid], each.since_ns)}
            with ProcessTree(started) as tree:
                pidfd = tree.fds.get(each.pid)
                # It may do something else by now, of another job.
                if pidfd is not None and self.arena.stop_with_job(each.pid, each.key, pidfd):
                    tree.kill()


def _since(pids: set[int], since_ns: int) -> set[int]:
    """Those that were started after this moment: a worker's others belong to tasks that it ran before."""
    since_boot_s = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic() + since_ns / 1e9
    ticks = int(since_boot_s * os.sysconf("SC_CLK_TCK"))
    return {pid for pid in pids if (found := processes.stat(pid)) and found[2] >= ticks}
