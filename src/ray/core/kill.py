"""Ends one process, and surely no other that got its number since."""

import contextlib
import os
import signal

from ray._kernel import Arena


def start_time(pid: int) -> int | None:
    """When the process started: field 22 of /proc/PID/stat, proc(5).  None: it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read()
    except OSError:
        return None
    # The second field, the command's name, may hold spaces and parentheses.
    return int(fields[fields.rindex(b")") + 2 :].split()[19])


def kill_process(arena: Arena, pid: int) -> None:
    """SIGKILL to this pid, if it is still the process that the arena knows by it.

    In a session of another user that is the node manager's to do: it ends what serves a killed actor."""
    known = {each: started for each, started, _, _, _ in arena.processes()}
    with contextlib.suppress(ProcessLookupError, FileNotFoundError, PermissionError):
        process = os.pidfd_open(pid)
        try:
            # Compared after the pidfd is open: from here on it means this one process.
            if pid in known and start_time(pid) == known[pid]:
                signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)
