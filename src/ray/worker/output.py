"""Whose output this worker's is: that of the driver whose task it runs."""

import os
import sys

from ray.core.job_output import STREAMS, path_of
from ray.worker.environment import flush


class Output:
    """Belongs to one worker. Without a folder all output goes where it went."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._job = 0

    def enter(self, job: int) -> None:
        """For a task, or an actor for life: what is printed from now on is this job's."""
        if not self._folder or job == self._job:
            return
        flush()
        for fd in STREAMS:
            file = _opened(path_of(self._folder, job, fd))
            os.dup2(file, fd)
            os.close(file)
        if not self._job:
            _by_lines()
        self._job = job


def _opened(path: str) -> int:
    """Somebody may have cleared the folder away; nobody else is to get what this job prints."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def _by_lines() -> None:
    """Output to a file would be seen when the task is done."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
