"""Files in a log folder of a session. Little is imported, since a keeper waits for this module.

In a session that belongs to no script two of them are each driver's own: the workers that run its tasks
append to them, whole lines at a time, and the driver follows them.
"""

import errno
import os

CODE_FOLDER = "code"  # in the log folder: modules of scripts from elsewhere, while the session lives
STREAMS = {1: "out", 2: "err"}  # descriptors, and what their files are called


def of_job(job: int, fd: int) -> str:
    """The name of the file with what a driver's tasks print."""
    return f"job-{job}.{STREAMS[fd]}"


def open_log(folder: str, name: str) -> int:
    """For appending. A folder that was cleared away, as temporary ones are after a while, is made again.

    Raises OSError, PermissionError for a folder that is another user's."""
    return _open(folder, name, os.O_WRONLY | os.O_APPEND)


def open_log_or_null(folder: str, name: str) -> int:
    """The same; where there is none the output is lost, and nobody else gets it."""
    try:
        return open_log(folder, name)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def open_log_for_reading(folder: str, name: str) -> int:
    """For a process that may not open it itself; made if nobody has written to it yet. Raises as
    `open_log`."""
    return _open(folder, name, os.O_RDONLY)


def _open(folder: str, name: str, access: int) -> int:
    try:
        place = _folder(folder)
    except FileNotFoundError:
        os.makedirs(folder, 0o700, exist_ok=True)
        place = _folder(folder)
    try:
        if os.fstat(place).st_uid != os.getuid():
            raise PermissionError(errno.EPERM, "the log folder belongs to another user", folder)
        flags = access | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=place)
    finally:
        os.close(place)


def _folder(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
