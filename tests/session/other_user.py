"""Another user of this machine, as whom only root may run programs."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from tests.api.programs import Programs

USER = 65_534  # "nobody"
CHECKOUT = Path(__file__).parents[2]
# Where the interpreter lies in root's own folder, say, its path is opened, in a mount namespace of the
# program's.
OPEN = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
closed=$1; shift
count=0
while [ "$1" != -- ]; do
    count=$((count + 1))
    eval "path$count=\\$1"
    mkdir /mnt/$count
    mount --bind "$1" /mnt/$count
    shift
done
shift
mount -t tmpfs -o mode=755 tmpfs "$closed"
while [ $count -gt 0 ]; do
    eval "path=\\$path$count"
    mkdir -p "$path"
    mount --move /mnt/$count "$path"
    count=$((count - 1))
done
umount /mnt
exec "$@"
"""


def become() -> list[str]:
    """The command that runs another as that user."""
    own = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    needed = {Path(sys.base_prefix), Path(sys.prefix), CHECKOUT}
    closed = {
        folder for path in needed for folder in (path, *path.parents) if not folder.stat().st_mode & 0o001
    }
    if not closed:
        return own
    top = min(closed, key=lambda folder: len(folder.parts))
    opened = [str(path) for path in sorted(needed) if path.is_relative_to(top)]
    return ["unshare", "--mount", "sh", "-c", OPEN, "sh", str(top), *opened, "--", *own]


@cache
def why_not() -> str:
    """Why there can be no programs of another user here; "" if there can."""
    if os.getuid() != 0:
        return "only root may become another user"
    command = [*become(), sys.executable, "-c", f"import os, ray; os.listdir({str(CHECKOUT)!r})"]
    try:
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return f"{error.filename} is not there, with which programs become another user's"
    return "" if done.returncode == 0 else f"another user can't run this checkout: {done.stderr}"


@contextmanager
def programs_of_other() -> Iterator[Programs]:
    """Runs programs of that user, in a folder of its own: this run's are closed to others."""
    if reason := why_not():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="ray-other-user-", dir="/tmp"))
    try:
        with Programs(folder, USER, become()) as running:
            yield running
    finally:
        shutil.rmtree(folder)
