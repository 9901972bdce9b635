"""What a worker says of a module that is not there, when the driver is on another node."""

import contextlib
import json
import sys

from ray._kernel import Arena
from ray.worker.job_paths import JobPath

CAUSES_MAX = 8


def explain(error: BaseException, arena: Arena, driver: JobPath) -> None:
    """Adds to an error that a missing module has caused which node has none, and what to do about it."""
    if not driver.is_guest:
        return
    module = ""
    with contextlib.suppress(Exception):  # the class of the error is the user's
        module = _missing(error)
    if not module:
        return
    record = json.loads(arena.session())
    node = f"node {record['node_ip_address']} ({record['node_id'][:8]})"
    left_out = driver.code.left_out if driver.code is not None else []
    if driver.code is not None and module in driver.code.names and left_out:
        why = (
            f"of the modules in the script's folder, {driver.folder}, these were left out: "
            f"{', '.join(left_out)}. Copy the folder to the same path on that node, or install the module"
        )
    elif driver.folder:
        why = f"install it, or put it into the script's folder, {driver.folder}, from which modules are sent"
    else:
        why = "install it, or put it beside the driver's script: modules that lie there are sent"
    text = (
        f"ray: the module {module!r} is not there for this task on {node}, whose interpreter is "
        f"{sys.executable}. So that it is found there, {why}."
    )
    with contextlib.suppress(Exception):
        BaseException.add_note(error, text)


def _missing(error: BaseException) -> str:
    """The top-level module that was not found, in what led to the error; "" if that was something else."""
    found: BaseException | None = error
    for _ in range(CAUSES_MAX):
        if found is None:
            break
        if issubclass(type(found), ModuleNotFoundError):
            return str(ImportError.__getattribute__(found, "name") or "").partition(".")[0]
        of = BaseException.__getattribute__
        found = of(found, "__cause__") or of(found, "__context__")
    return ""
