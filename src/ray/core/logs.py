"""Files in a log folder of a session. Only `os` is imported, since a keeper waits for this module.

In a session that belongs to no script two of them are each driver's own: the workers that run its tasks
append to them, whole lines at a time, and the driver follows them.
"""

import os

STREAMS = {1: "out", 2: "err"}  # descriptors, and what their files are called


def of_job(job: int, fd: int) -> str:
    """The name of the file with what a driver's tasks print."""
    return f"job-{job}.{STREAMS[fd]}"


def open_log(folder: str, name: str) -> int:
    """For appending. A folder that was cleared away, as temporary ones are after a while, is made again."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC
    path = os.path.join(folder, name)
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(folder, 0o700, exist_ok=True)
        return os.open(path, flags, 0o600)
