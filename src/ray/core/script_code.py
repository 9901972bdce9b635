"""The modules in a script's folder, as they travel to nodes that don't have them.

A driver says which top-level modules its folder has, and where that is (`describe`). When a worker elsewhere
imports one of them, the folder's code is packed, once, and named by its content. Packed bytes are
compressed; unpacked they are

    4 bytes magic, u32 length of the header
    the header, JSON: of each file its path and size, sorted by path
    the files, one after the other

What travels is bounded: modules first, then, of packages, whatever else lies in them. Nothing is run here.
"""

import hashlib
import json
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from itertools import islice
from typing import Any, NamedTuple

CODE_BYTES = 32 << 20  # of all files of a script's folder
FILE_BYTES = 8 << 20
FILES_MAX = 4_096
NAMES_MAX = 1_024
ENTRIES_MAX = 50_000  # that are looked at in the whole folder
GLANCE = 1_000  # that are looked at in each folder for a module
SAID_MAX = 5  # of the files that were left out

_MAGIC = b"RSC1"
_HEAD = struct.Struct("<4sI")
_HEADER_BYTES = 4 << 20
_MODULES = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)
_NOT_CODE = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})


class DamagedCodeError(ValueError):
    """Packed code is not what it is said to be."""


class Packed(NamedTuple):
    data: bytes
    digest: str  # of what is in it, hexadecimal
    left_out: list[str]  # for people: path and reason


# --- where it is ---


def script_folder() -> str | None:
    """Of the program that runs: where its own modules lie; None when it is no script, or an installed one."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if not file:
        return None
    try:
        folder = os.path.dirname(os.path.realpath(file))
    except OSError:
        return None
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m a.b
        for _ in range(spec.name.count(".")):
            folder = os.path.dirname(folder)
    is_installed = folder.startswith(os.path.dirname(os.__file__)) or not _NOT_CODE.isdisjoint(
        folder.split(os.sep)
    )
    if is_installed:
        return None
    # As it stands in the path, which may name it by a link.
    return next((os.path.abspath(entry) for entry in sys.path if _real(entry) == folder), None)


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except OSError:
        return path


def describe(folder: str) -> dict[str, Any] | None:
    """What others must know of it; None when it has no modules."""
    names = sorted(_names(folder))[:NAMES_MAX]
    return {"folder": folder, "names": names, "place": place_of(folder)} if names else None


def place_of(folder: str) -> str:
    """The same for the same folder on the same machine; "" when it is not there, or not to be read."""
    try:
        found = os.stat(folder)
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
    except OSError:
        return ""
    return f"{boot}:{found.st_dev}:{found.st_ino}" if os.access(folder, os.R_OK | os.X_OK) else ""


def _names(folder: str) -> Iterator[str]:
    for entry in _entries(folder):
        if entry.is_dir():
            # At each driver's start: somebody's script may lie among folders of a million files.
            inner = [each.name for each in _entries(entry.path, GLANCE)] if entry.name.isidentifier() else []
            has_any = any(name.endswith(_MODULES) for name in inner)
            if _is_code(entry.name, inner) and (has_any or os.path.exists(f"{entry.path}/__init__.py")):
                yield entry.name
        elif name := _module_name(entry.name):
            yield name


def _module_name(file: str) -> str:
    suffix = max((each for each in _MODULES if file.endswith(each)), key=len, default="")
    name = file.removesuffix(suffix) if suffix else ""
    return name if name.isidentifier() else ""


def _is_code(folder: str, inner: list[str]) -> bool:
    return not folder.startswith(".") and folder not in _NOT_CODE and "pyvenv.cfg" not in inner


def _entries(folder: str, most: int = ENTRIES_MAX) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return sorted(islice(entries, most), key=lambda entry: entry.name)
    except OSError:
        return []


# --- packed ---


def pack(folder: str) -> Packed:
    """The folder's code. What can't be read is left out."""
    files, left_out = _chosen(folder)
    bodies: list[tuple[str, bytes]] = []
    for path in files:
        try:
            with open(os.path.join(folder, path), "rb") as file:
                bodies.append((path, file.read(FILE_BYTES)))
        except OSError as error:
            left_out.append(f"{path} ({error.strerror})")
    header = json.dumps([[path, len(body)] for path, body in bodies]).encode()
    whole = b"".join([_HEAD.pack(_MAGIC, len(header)), header, *(body for _, body in bodies)])
    return Packed(zlib.compress(whole, 1), hashlib.sha256(whole).hexdigest(), left_out)


def unpack(data: bytes, digest: str, into: str) -> None:
    """Writes the files to a folder with this name, all at once: it is there with all of them, or not at all.
    Only this user can read them.

    Raises DamagedCodeError for what is not the code with this digest, OSError.
    """
    import shutil

    unpacking = zlib.decompressobj()
    try:
        whole = unpacking.decompress(data, _HEAD.size + _HEADER_BYTES + CODE_BYTES)
    except zlib.error as error:
        raise DamagedCodeError(str(error)) from None
    if not unpacking.eof or hashlib.sha256(whole).hexdigest() != digest:
        raise DamagedCodeError("it is not the code with this digest")
    making = f"{into}.{os.getpid()}"
    shutil.rmtree(making, ignore_errors=True)
    os.makedirs(os.path.dirname(into), 0o700, exist_ok=True)
    os.mkdir(making, 0o700)
    try:
        for path, body in _bodies(whole):
            place = os.path.join(making, path)
            os.makedirs(os.path.dirname(place), 0o700, exist_ok=True)
            file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(file, "wb") as out:
                out.write(body)
        os.rename(making, into)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        if not os.path.isdir(into):  # another has been faster
            raise


def _bodies(whole: bytes) -> Iterator[tuple[str, memoryview]]:
    try:
        magic, length = _HEAD.unpack_from(whole)
        header = json.loads(whole[_HEAD.size : _HEAD.size + length])
        files = [(str(path), int(size)) for path, size in header]
    except (struct.error, ValueError, TypeError) as error:
        raise DamagedCodeError(f"its header can't be read: {error}") from None
    if magic != _MAGIC or any(not _is_inside(path) or size < 0 for path, size in files):
        raise DamagedCodeError("it has files with names that no code has")
    at = _HEAD.size + length
    for path, size in files:
        yield path, memoryview(whole)[at : at + size]
        at += size


def _is_inside(path: str) -> bool:
    """Of a path that came from elsewhere: it leads nowhere else."""
    return "\0" not in path and all(part not in ("", ".", "..") for part in path.split("/"))


def _chosen(folder: str) -> tuple[list[str], list[str]]:
    """Paths of the files that travel, sorted; and of those that don't, with the reason."""
    modules, others, left_out = _found(folder)
    chosen: list[str] = []
    total = 0
    for path, size in (*sorted(modules), *sorted(others)):
        if size > FILE_BYTES:
            left_out.append(f"{path} ({size:,} bytes; a file may have {FILE_BYTES:,})")
        elif total + size > CODE_BYTES or len(chosen) == FILES_MAX:
            left_out.append(f"{path} (all together may be {FILES_MAX:,} files and {CODE_BYTES:,} bytes)")
        else:
            chosen.append(path)
            total += size
    return sorted(chosen), left_out


def _found(folder: str) -> tuple[list[tuple[str, int]], list[tuple[str, int]], list[str]]:
    """Modules, other files of packages, with their sizes; and what was not looked at."""
    modules: list[tuple[str, int]] = []
    others: list[tuple[str, int]] = []
    left_out: list[str] = []
    to_do = [("", False)]
    seen = 0
    while to_do:
        inside, in_package = to_do.pop(0)
        entries = _entries(os.path.join(folder, inside))
        names = [entry.name for entry in entries]
        if not _is_code(os.path.basename(inside), names):
            continue
        seen += len(entries)
        if seen >= ENTRIES_MAX:
            left_out.append(f"{inside or folder} (what comes after {ENTRIES_MAX:,} files and folders)")
            break
        in_package = in_package or (bool(inside) and "__init__.py" in names)
        for entry in entries:
            path = os.path.join(inside, entry.name)
            try:
                if entry.is_dir(follow_symlinks=not inside):
                    if in_package or entry.name.isidentifier():
                        to_do.append((path, in_package))
                elif entry.is_file():
                    if entry.name.endswith(_MODULES):
                        modules.append((path, entry.stat().st_size))
                    elif in_package and not entry.name.endswith(".pyc"):
                        others.append((path, entry.stat().st_size))
            except OSError:
                continue
    return modules, others, left_out


def said(folder: str, left_out: list[str]) -> str:
    """What the driver says of it."""
    some = ", ".join(left_out[:SAID_MAX])
    more = f" and {len(left_out) - SAID_MAX:,} more" if len(left_out) > SAID_MAX else ""
    return (
        f"of the modules in {folder}, which are sent to other nodes, some were left out: {some}{more}. Where "
        "tasks need them, copy the folder to the same path on each node, or install them there."
    )
