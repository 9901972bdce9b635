"""Where a task's imports are looked for: on the path of the driver whose job it belongs to.

A worker is forked with the path of the driver that started the session, and runs tasks of all drivers.  What
it has imported from one driver's own folders is another's no more: two may have a `helpers.py` beside
their scripts, and each shall meet its own.
"""

import json
import os
import sys
from types import ModuleType

from ray._kernel import JOURNAL_JOB, Arena
from ray.errors import RaySystemError

FIELD = "sys_path"  # of a job's first journal entry, unless it started the session


class JobPaths:
    """`sys.path` and the modules that come from it, for one job at a time."""

    def __init__(self, arena: Arena, first_job: int) -> None:
        self._arena = arena
        self._job = first_job
        self._paths = {first_job: list(sys.path)}
        self._ours = frozenset(sys.modules)  # imported before any task: every job's
        self._aside: dict[int, dict[str, ModuleType]] = {}

    def enter(self, job: int) -> None:
        """For a task: what is imported from now on is this job's."""
        if job == self._job:
            return
        path = self._path(job)
        if path != self._path(self._job):
            self._aside[self._job] = self._taken_out(set(self._path(self._job)) - set(path))
            sys.modules.update(self._aside.pop(job, {}))
            sys.path[:] = path
        self._job = job

    def add(self, job: int) -> None:
        """For a call of an actor, whose own modules stay: what this job's arguments need is found as well."""
        if job != self._job:
            sys.path += [folder for folder in self._path(job) if folder not in sys.path]

    def _path(self, job: int) -> list[str]:
        path = self._paths.get(job)
        if path is None:
            path = self._from_journal(job) or self._from_redis(job) or next(iter(self._paths.values()))
            self._paths[job] = path
        return path

    def _from_journal(self, job: int) -> list[str] | None:
        place = 0
        while True:
            place, entries = self._arena.journal_read(place)
            if not entries:
                return None
            for _, kind, whose, _, data in entries:
                if kind == JOURNAL_JOB and whose == job and FIELD in (event := json.loads(data)):
                    found: list[str] = event[FIELD]
                    return found

    def _from_redis(self, job: int) -> list[str] | None:
        """The journal reaches back a bounded time only."""
        from ray.control_store.client import ControlStore

        record = json.loads(self._arena.session())
        if not record["control_store"]:
            return None
        control_store = ControlStore(record["control_store"][:1], record["redis_password"])
        try:
            found: list[str] | None = control_store.jobs().get(job, {}).get(FIELD)
        except RaySystemError:  # being restarted: an import that fails will say what is missing
            return None
        finally:
            control_store.close()
        return found

    def _taken_out(self, folders: set[str]) -> dict[str, ModuleType]:
        """Takes the modules that were imported from these folders out of the interpreter's table."""
        tops = {name for name in sys.modules if "." not in name and name not in self._ours}
        private = {name for name in tops if _folder_of(sys.modules[name]) in folders}
        found = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in private}
        for name in found:
            del sys.modules[name]
        return found


def _folder_of(module: ModuleType) -> str | None:
    """The entry of the path that a top-level module was found in."""
    spec = getattr(module, "__spec__", None)
    places = getattr(spec, "submodule_search_locations", None) or [getattr(spec, "origin", None)]
    first = next(iter(places), None)
    return os.path.dirname(first) if isinstance(first, str) else None
