"""Where what a driver's tasks print is kept, in a session that belongs to no script: two files of its logs.

The workers that run its tasks append to them, whole lines at a time, and the driver follows them.
"""

import os

STREAMS = {1: "out", 2: "err"}  # descriptors, and what their files are called


def path_of(folder: str, job: int, fd: int) -> str:
    return os.path.join(folder, f"job-{job}.{STREAMS[fd]}")
