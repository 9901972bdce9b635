"""Whose output this worker's is: that of the driver whose task it runs."""

import os
import sys

from ray.core.logs import STREAMS, of_job, open_log_or_null
from ray.worker.environment import flush


class Output:
    """Belongs to one worker. Without a folder all output goes where it went."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.job = 0

    def enter(self, job: int) -> None:
        """For a task, or an actor for life: what is printed from now on is this job's."""
        if not self._folder or job == self.job:
            return
        flush()
        for fd in STREAMS:
            file = open_log_or_null(self._folder, of_job(job, fd))
            os.dup2(file, fd)
            os.close(file)
        if not self.job:
            _by_lines()
        self.job = job


def _by_lines() -> None:
    """Else output to a file is seen when the task is done; or without any buffer, as PYTHONUNBUFFERED has it,
    a line and its end are two writes, with others' between them."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, write_through=False)
