"""The end of a job: when a driver has ended, what it had begun is stopped, and nobody else's.

Its objects go with its references, as they do anyway.
"""

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

    def look(self, jobs_ended: int) -> None:
        """`jobs_ended` as in the arena's statistics; does nothing when it is what it was."""
        if jobs_ended == self._seen:
            return
        for _ in range(ROUNDS):
            failed, found = self.arena.end_jobs()
            if not failed and not found:
                self._seen = jobs_ended
                return
            self._stop([Running(*each) for each in found])

    def _stop(self, found: list[Running]) -> None:
        trees = processes.trees({each.pid for each in found}) if found else {}
        for each in found:
            with ProcessTree(trees[each.pid]) as tree:
                pidfd = tree.fds.get(each.pid)
                # It may do something else by now, of another job. And below the task that it runs one of
                # another job may wait for that, and is to run again; the ended job's do not.
                if pidfd is not None and self.arena.stop(each.pid, each.key, pidfd, None, again=True):
                    tree.kill()
