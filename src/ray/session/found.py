"""This user's sessions on this machine, as the commands find and end them: by record, never by name."""

import contextlib
import dataclasses
import os
import select
import signal

from ray import _kernel
from ray.errors import RaySystemError
from ray.session import handshake, processes
from ray.session.launch import end_session
from ray.session.record import SessionRecord
from ray.session.say import say

ANSWER_S = 5.0  # for a keeper to hand out its arena: it does at once, unless the machine stands still
END_MS = 10_000  # for a keeper to end its session: it needs two at most, unless the machine stands still


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A running session of this user on this machine. `arena` is mapped, but not joined."""

    record: SessionRecord
    arena: _kernel.Arena


def find_sessions() -> list[Found]:
    """All of this user's, in the order of their ports. One that is there and can't be looked into is left out
    and named on standard error, with the reason."""
    found = []
    for _, port, node_port in handshake.open_sockets(uid=os.getuid()):
        try:
            admitted = handshake.connect(port, ANSWER_S, node_port)
        except handshake.IncompatibleError as error:
            say(f"the session with port {port} is left out: {error}, which this release does not understand.")
            continue
        except TimeoutError:
            say(
                f"the session with port {port} is left out: its keeper process does not answer. It is "
                "stopped (`kill -CONT` lets it go on), or the machine is overloaded."
            )
            continue
        except (ConnectionError, handshake.PeerRefusedError):  # it ends; or somebody else has its name
            continue
        except OSError as error:
            say(f"the session with port {port} is left out: it can't be asked ({error.strerror}).")
            continue
        with admitted:
            try:
                arena = _kernel.Arena.attach(admitted.arena_fd)
                found.append(Found(SessionRecord.load(arena.session()), arena))
            except _kernel.ArenaClosed:  # it ends
                continue
            except (_kernel.KernelError, RaySystemError) as error:
                say(f"the session with port {port} is left out: {error}")
    return found


def end_standalone(found: Found) -> list[tuple[int, str]]:
    """Ends the session; returns the processes, pid and name, that it had. Blocks until they are gone."""
    record = found.record
    with contextlib.ExitStack() as opened:
        try:
            pidfd = os.pidfd_open(record.keeper_pid)
        except ProcessLookupError:
            return []
        opened.callback(os.close, pidfd)
        members = processes.of_session(record.token)
        if record.keeper_pid not in members:  # another has its number
            return []
        named = [(pid, processes.name(pid)) for pid in sorted(members)]
        signal.pidfd_send_signal(pidfd, signal.SIGINT)
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if not poller.poll(END_MS):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            end_session(record.token)
    return named
