"""Reports every unpickling in keeper, node manager and template; installed in the keeper, inherited by fork.

Workers are forked from the template and unpickle all day; a process's name says what it is. What counts
as unpickling: `load`, `loads` and `Unpickler.load` of `_pickle`, which all of `pickle` and `cloudpickle`
come down to, and any class looked up by a pickle, in C or in Python. Keeper and node manager may not
even import `pickle`. Only `os` and `sys` are imported here: this runs before a keeper's first line.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WITHOUT_PICKLE = ("ray-keeper", "ray-node")
WATCHED = (*WITHOUT_PICKLE, "ray-template")
BEGUN, FOUND = "audits ", "unpickled: "  # how the lines of the file begin
# Names a module; when that is imported, the hook itself unpickles something, to show that it is awake.
PROVOKE_VARIABLE = "RAY_TEST_AUDIT_PROVOKE"

_file = ""
_free_pid = 0  # this process is none of the watched ones
_busy = False


def install(file: str) -> None:
    """From here on, and in all that is forked from here; there is no way to undo it."""
    global _file
    _file = file
    _write(f"{BEGUN}{os.getpid()}\n")
    provoke = os.environ.get(PROVOKE_VARIABLE)

    def watch(event: str, arguments: "tuple[Any, ...]") -> None:
        if event == "pickle.find_class":
            note(f"{event} {arguments[0]}.{arguments[1]}", WATCHED)
        elif event == "import":
            if arguments[0] in ("pickle", "_pickle"):
                _guard(arguments[0])
            elif arguments[0] == provoke:
                _provoke()

    sys.addaudithook(watch)


def note(what: str, watched: "tuple[str, ...]") -> None:
    """Writes it down, with the stack, if this is a watched process."""
    global _free_pid
    if os.getpid() == _free_pid:
        return
    try:
        with open("/proc/self/comm") as comm:
            name = comm.read().strip()
    except OSError:  # a test of what happens without file descriptors
        return
    if name in watched:
        _write(f"{FOUND}{name} {os.getpid()}: {what}; at {' < '.join(_stack())}\n")
    elif name not in WATCHED:
        _free_pid = os.getpid()


def _guard(imported: str) -> None:
    """Puts reporting functions in the place of those that unpickle, before anybody can have taken them."""
    global _busy
    if _busy:
        return
    note(f"import {imported}", WITHOUT_PICKLE)
    _busy = True  # the next line is an import of the same
    import _pickle

    _busy = False
    if hasattr(_pickle, "guarded"):
        return
    setattr(_pickle, "guarded", True)  # noqa: B010
    for name in ("load", "loads"):
        setattr(_pickle, name, _reporting(getattr(_pickle, name)))
    plain = _pickle.Unpickler

    class Unpickler(plain):  # type: ignore[valid-type, misc]
        def load(self) -> "Any":
            note("Unpickler.load", WATCHED)
            return super().load()

    _pickle.Unpickler = Unpickler  # type: ignore[misc]


def _reporting(plain: "Any") -> "Any":
    def call(*args: "Any", **options: "Any") -> "Any":
        note(plain.__name__, WATCHED)
        return plain(*args, **options)

    return call


def _provoke() -> None:
    import pickle

    pickle.loads(pickle.dumps([1]))


def _stack() -> list[str]:
    frame, found = sys._getframe(2), []
    while frame is not None:
        if "importlib" not in frame.f_code.co_filename:
            found.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        frame = frame.f_back
    return found[1:]


def _write(line: str) -> None:
    try:
        fd = os.open(_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # as above
        return
    os.write(fd, line.encode())
    os.close(fd)
