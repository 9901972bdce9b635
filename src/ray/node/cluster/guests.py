"""Jobs of drivers on other nodes, as this node's workers know them."""

import json
import time
from collections.abc import Callable
from typing import Any

from ray import _kernel
from ray.core.job_entries import CODE, EVENT, HOME, STARTED, SYS_PATH
from ray.session import jobs
from ray.wire import messages


class Guests:
    def __init__(
        self,
        arena: _kernel.Arena,
        node: bytes,
        learned: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        """`learned`: of another job; `ended`: some have."""
        self.arena = arena
        self.learned = learned
        self.node = node
        self.ended = ended
        self._known: dict[bytes, messages.Job] = {}  # guests, by their root ids

    def describe(self, root: bytes) -> messages.Job:
        known = self._known.get(root)
        if known is not None:
            return known
        jobs_here = {own: (self.node, job) for job, own in self.arena.drivers()}
        nodes = dict(self.arena.peers())
        # A guest that a node manager before this one has learned of.
        jobs_here.update((each, (nodes[home], job)) for job, home, each in self.arena.guests())
        home, number = jobs_here[root]
        start: dict[str, Any] = jobs.start_of(self.arena, number) or {}
        code = start.get(CODE)
        return messages.Job(
            root, home, start.get(SYS_PATH) or [], False, None if code is None else messages.Code(**code)
        )

    def learn(self, number: int, job: messages.Job) -> None:
        self._known[job.root_id] = job
        code = job.code
        entry = {
            EVENT: STARTED,
            "pid": 0,
            "time_s": time.time(),
            "root_id": job.root_id.hex(),
            "name": f"of node {job.home.hex()[:8]}",
            HOME: job.home.hex(),
            SYS_PATH: job.sys_path,
            CODE: code and {"folder": code.folder, "place": code.place, "names": code.names},
        }
        self.arena.journal(_kernel.JOURNAL_JOB, json.dumps(entry).encode(), number)
        self.learned()
