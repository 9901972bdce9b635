"""For the drivers of attacks: makes the system smaller for this process and those that it will start.

To be called before `ray` is imported, with one thread only. Where that can't be had (no right to make
namespaces, say) the driver ends, and has said `skip` and why.
"""

import contextlib
import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_REC, MS_PRIVATE = 1, 32, 16384, 1 << 18
PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 4, 8, 47, 2
CAPABILITY_VERSION = 0x20080522
CAP_DAC_OVERRIDE = 1  # the interpreter may lie where only root may look
FIRST_UID = 200_000  # of users that nobody is

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *args: object) -> None:
    if getattr(_libc, name)(*args) != 0:
        print(f"skip {name}: {os.strerror(ctypes.get_errno())}\ndone", flush=True)
        os._exit(0)


def own_mounts() -> None:
    """From here on this process sees mounts of its own, which go with its last process."""
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        _call("unshare", CLONE_NEWNS)
    else:
        _call("unshare", CLONE_NEWNS | CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _call("mount", b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)


def small_disk(folder: Path, nbytes: int) -> Path:
    """Puts a file system of its own, of this size, at the folder; after `own_mounts`."""
    folder.mkdir(exist_ok=True)
    options = f"size={nbytes},mode=700".encode()
    _call("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", ctypes.c_ulong(0), options)
    return folder


def read_only_folder(folder: Path) -> Path:
    """An empty folder that can't be written to, not even by root; after `own_mounts`."""
    small_disk(folder, 1 << 16)
    _call("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", ctypes.c_ulong(MS_REMOUNT | MS_RDONLY), None)
    return folder


def fill(folder: Path) -> Path:
    """A file that takes all that is left of the folder's file system."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def own_user() -> int:
    """Become a user with no other process, whom RLIMIT_NPROC binds; returns how many it has by now."""
    if os.getuid() == 0:
        _become(FIRST_UID + os.getpid() % 100_000)
    return _processes_of(os.getuid())


def _become(uid: int) -> None:
    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

    class Sets(ctypes.Structure):
        _fields_ = (
            ("effective", ctypes.c_uint32),
            ("permitted", ctypes.c_uint32),
            ("inheritable", ctypes.c_uint32),
        )

    kept = 1 << CAP_DAC_OVERRIDE
    _call("prctl", PR_SET_KEEPCAPS, ctypes.c_ulong(1), 0, 0, 0)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    sets = (Sets * 2)(Sets(kept, kept, kept), Sets(0, 0, 0))
    _call("capset", ctypes.byref(Header(CAPABILITY_VERSION, 0)), ctypes.byref(sets))
    _call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, ctypes.c_ulong(CAP_DAC_OVERRIDE), 0, 0)
    _call("prctl", PR_SET_DUMPABLE, ctypes.c_ulong(1), 0, 0, 0)


def _processes_of(uid: int) -> int:
    """Processes and threads of a user, as RLIMIT_NPROC counts them."""
    count = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == uid:
                    count += len(list((entry / "task").iterdir()))
    return count


@contextlib.contextmanager
def limited(which: int, most: int) -> Iterator[None]:
    """With this soft limit; the hard one stays."""
    soft, hard = resource.getrlimit(which)
    resource.setrlimit(which, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(which, (soft, hard))
