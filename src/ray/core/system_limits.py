"""Limits of the system that a session runs into: which one an error number stands for, and where it is set.

Imported when something was refused, and by those who start threads; a keeper imports it no sooner.
"""

import errno
import os
import resource
import threading

from ray._kernel import Arena, DirectoryFull, KernelError, SystemFailed
from ray.errors import RaySystemError, SystemLimitError

FILES_NEEDED = 64  # open files of each process; Redis wants 32 for itself, and some for connections
SERVER_THREADS = 8  # at least as many as a server starts before it answers

_FOLDER_FULL = (errno.ENOSPC, errno.EDQUOT)


def refused(what: str, error: OSError, folder: str = "") -> RaySystemError:
    """What to raise when the system refused what the session needs; `what` is said first, `folder` where
    room was wanted."""
    limit = limit_of(error.errno or 0, folder)
    if limit is None:
        return RaySystemError(f"{what}: {error}.")
    return SystemLimitError(what, limit, error.strerror or str(error))


def refused_by_kernel(what: str, error: KernelError, folder: str = "") -> RaySystemError:
    """The same for what the kernel raised; `folder` is where the arena's memory lies."""
    match error:
        case SystemFailed():
            text, number = error.args
            return refused(what, OSError(number, text), folder)
        case DirectoryFull():
            return refused(what, OSError(error.args[0], os.strerror(error.args[0])), folder)
    return RaySystemError(f"{what}: {error}.")


def store_folder_full(arena: Arena, error: DirectoryFull) -> RaySystemError:
    """For a store that can't grow any more where its memory lies."""
    folder = os.path.dirname(os.readlink(f"/proc/self/fd/{arena.fd}"))
    return refused_by_kernel("The object store can't grow", error, folder)


def limit_of(number: int, folder: str = "") -> str | None:
    """What the system means by this error number: a limit, its value, where it is set.  None: no limit."""
    match number:
        case errno.EMFILE:
            return f"{_soft(resource.RLIMIT_NOFILE)} open files in each process (RLIMIT_NOFILE, ulimit -n)"
        case errno.ENFILE:
            return "the open files of the whole machine (sysctl fs.file-max)"
        case errno.EAGAIN:
            return (
                f"{_soft(resource.RLIMIT_NPROC)} processes and threads of this user (RLIMIT_NPROC, "
                "ulimit -u), or those of its container (pids.max of the cgroup)"
            )
        case errno.ENOMEM:
            if not _is_set(resource.RLIMIT_AS):
                return "the memory of the machine, or of its container"
            most = _soft(resource.RLIMIT_AS)
            return f"{most} bytes of address space in each process (RLIMIT_AS, ulimit -v)"
        case errno.EFBIG:
            return f"{_soft(resource.RLIMIT_FSIZE)} bytes in a file (RLIMIT_FSIZE, ulimit -f)"
        case errno.EROFS:
            return f"the file system of {folder} is read-only"
        case number if number in _FOLDER_FULL:
            return f"the space in {folder}" if folder.strip("/") else "the huge pages of the machine"
    return None


def require_open_files() -> None:
    """Raises SystemLimitError when the processes of a session could not open the files that they need."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if _is_set(resource.RLIMIT_NOFILE) and most < FILES_NEEDED:
        limit = limit_of(errno.EMFILE)
        assert limit is not None
        raise SystemLimitError("A session can't be started", limit, f"each process needs {FILES_NEEDED}")


def start_thread(thread: threading.Thread) -> None:
    """Raises SystemLimitError when the system allows no more threads."""
    try:
        thread.start()
    except RuntimeError:  # all that Python says of EAGAIN
        raise no_more_threads(thread.name) from None


def no_more_threads(name: str) -> RaySystemError:
    """What to raise when the thread of this name was refused."""
    problem = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return refused(f"The thread {name} can't be started", problem)


def room_for_threads(count: int = SERVER_THREADS) -> bool:
    """Whether this process may have so many threads more; tried, since nobody can be asked."""
    gate = threading.Lock()

    def pass_through() -> None:
        with gate:
            pass

    with gate:
        for _ in range(count):
            try:
                threading.Thread(target=pass_through, daemon=True).start()
            except RuntimeError:
                return False
    return True


def _soft(which: int) -> str:
    return f"{resource.getrlimit(which)[0]:,}" if _is_set(which) else "any number of"


def _is_set(which: int) -> bool:
    return resource.getrlimit(which)[0] != resource.RLIM_INFINITY
