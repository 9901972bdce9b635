"""Where a task's imports are looked for: on the path of the driver whose job it belongs to.

A worker is forked with the path of the driver that started the session, and runs tasks of all drivers.  What
it has imported from one driver's own folders is another's no more: two may have a `helpers.py` beside
their scripts, and each shall meet its own.  Modules of a script that this process can't see where the driver
has them come from the driver (`ray.worker.script_modules`).
"""

import json
import os
import sys
from types import ModuleType
from typing import Any, NamedTuple

from ray._kernel import JOURNAL_JOB, Arena
from ray.core.job_entries import CODE, HOME, SYS_PATH
from ray.errors import RaySystemError
from ray.worker.script_modules import ScriptCode, ScriptFinder, code_elsewhere


class JobPath(NamedTuple):
    """What is known of a job's driver."""

    path: list[str]
    code: ScriptCode | None  # None: it is where the driver has it, or there is none
    is_guest: bool  # the driver is on another node
    folder: str  # of its script; "" when it has no modules


class JobPaths:
    """`sys.path` and the modules that come from it, for one job at a time."""

    def __init__(self, arena: Arena, first_job: int) -> None:
        self._arena = arena
        self._job = first_job
        self._known = {first_job: JobPath(list(sys.path), None, False, "")}
        self._ours = frozenset(sys.modules)  # imported before any task: every job's
        self._aside: dict[int, dict[str, ModuleType]] = {}
        self._finder = ScriptFinder()

    def enter(self, job: int) -> None:
        """For a task: what is imported from now on is this job's."""
        if job == self._job:
            return
        known = self.of(job)
        before = self.of(self._job).path
        if known.path != before:
            self._aside[self._job] = self._taken_out(set(before) - set(known.path))
            sys.modules.update(self._aside.pop(job, {}))
            sys.path[:] = known.path
        self._finder.show([known.code] if known.code is not None else [])
        self._job = job

    def add(self, job: int) -> None:
        """For a call of an actor, whose own modules stay: what this job's arguments need is found as well."""
        if job == self._job:
            return
        known = self.of(job)
        sys.path += [folder for folder in known.path if folder not in sys.path]
        if known.code is not None and known.code not in self._finder.codes:
            self._finder.show([*self._finder.codes, known.code])

    def of(self, job: int) -> JobPath:
        known = self._known.get(job)
        if known is None:
            start = self._from_journal(job) or self._from_redis(job)
            if start is None:
                known = next(iter(self._known.values()))
            else:
                path = list(start[SYS_PATH])
                described = start.get(CODE)
                code = code_elsewhere(self._arena, job, described, path)
                known = JobPath(path, code, HOME in start, described["folder"] if described else "")
            self._known[job] = known
        return known

    def _from_journal(self, job: int) -> dict[str, Any] | None:
        place = 0
        while True:
            place, entries = self._arena.journal_read(place)
            if not entries:
                return None
            for _, kind, whose, _, data in entries:
                if kind == JOURNAL_JOB and whose == job and SYS_PATH in (event := json.loads(data)):
                    found: dict[str, Any] = event
                    return found

    def _from_redis(self, job: int) -> dict[str, Any] | None:
        """The journal reaches back a bounded time only. Redis has that of the head."""
        from ray.control_store.client import ControlStore

        record = json.loads(self._arena.session())
        if not record["control_store"] or record.get("head_address"):
            return None
        control_store = ControlStore(record["control_store"][:1], record["redis_password"])
        try:
            found: dict[str, Any] = control_store.jobs().get(job, {})
        except RaySystemError:  # being restarted: an import that fails will say what is missing
            return None
        finally:
            control_store.close()
        return found if SYS_PATH in found else None

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
