"""Sessions that belong to no script: started, found and ended from a shell."""

import contextlib
import dataclasses
import os
import select
import signal
import socket
import sys

from ray import _kernel
from ray.errors import InitError, RaySystemError
from ray.session import handshake, preloading, processes, start, tokens
from ray.session.launch import KeeperHandle, end_session
from ray.session.options import SessionOptions
from ray.session.record import SessionRecord
from ray.session.say import say
from ray.session.spec import KeeperSpec
from ray.session.spill_file import open_spill_file
from ray.wire.token import ClusterToken

DEFAULT_PORT = 6379  # of Redis; who knows no other looks there
ANY_PORT = 0
ANSWER_S = 2.0  # for a keeper to hand out its arena
END_MS = 10_000  # for a keeper to end its session: it needs two at most, unless the machine stands still


def start_standalone(
    options: SessionOptions, redis_port: int | None = None, token_file: str | None = None
) -> tuple[KeeperHandle, SessionRecord]:
    """Starts a session that goes on until its keeper is told to end; this process does not join it.

    `redis_port` None is the usual port, or any if that is taken; ANY_PORT is any. `token_file` is where the
    cluster's token is, or shall be; None: in this user's configuration folder, for as long as the cluster
    lives. Blocks until Redis answers. The caller detaches the handle, or ends it. Raises InitError for a
    port that is taken, ClusterTokenError for a file that can't be used, else as `start_session`.
    """
    binary = start.check_machine(options)
    token = tokens.of_new_cluster(token_file)
    port = _port(options.node_ip_address, redis_port)
    with start.refusals(options):
        return _start(options, binary, port, redis_port is None, token, token_file)


def _start(
    options: SessionOptions,
    binary: str,
    port: int,
    any_port: bool,
    token: ClusterToken,
    token_file: str | None,
) -> tuple[KeeperHandle, SessionRecord]:
    arena = start.new_arena(options, any_user=True)
    spill = open_spill_file(options.config.spill_fraction)
    keeper: KeeperHandle | None = None
    try:
        spec = start.spec_of(options, arena, binary)
        _detached(spec, port, any_port, spill)
        spec.cluster_token, spec.keeps_token_file = token.text, token_file is not None
        spec.password, spec.admission_key = tokens.password(token), tokens.admission_key(token)
        keeper = KeeperHandle(spec)
        ports = keeper.wait_ready(options.config.start_ms)
        path = os.path.abspath(token_file or tokens.of_port(ports[0]))
        record = start.record_of(options, spec, 0, keeper.pid, ports, path)
        arena.set_session(
            record.dump()
        )  # with the file's name first, so that the keeper removes it in any case
        if token_file is None or not os.path.lexists(path):
            token.save(path)
        keeper.publish()
        return keeper, record
    except BaseException:
        if keeper is not None:
            keeper.end(options.config.end_ms)
        raise
    finally:
        if spill is not None:
            os.close(spill[0])
        arena.leave()


def _detached(spec: KeeperSpec, port: int, any_port: bool, spill: tuple[int, int] | None) -> None:
    """What is different when there is no script."""
    if not sys.flags.safe_path:
        del spec.sys_path[:1]  # where the command lies, or this folder
    spec.script_folder = ""
    spec.argv = [""]
    spec.preload = list(preloading.AT_ONCE)  # nobody knows yet what drivers will want
    spec.preload_later = []
    spec.driver_pid = 0
    spec.redis_port, spec.any_port = port, any_port
    if spill is not None:
        spec.spill_fd, spec.spill_bytes = spill


# --- the port ---


def _port(host: str, wanted: int | None) -> int:
    if wanted is None:
        return DEFAULT_PORT if _is_free(host, DEFAULT_PORT) else ANY_PORT
    if wanted != ANY_PORT and not _is_free(host, wanted):
        raise InitError(
            f"Port {wanted} on {host} is taken by {_holder(wanted)}. Choose another with --redis-port, or "
            "leave that out: then a free one is found."
        )
    return wanted


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Redis does it
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _holder(port: int) -> str:
    import psutil

    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
            try:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
            except psutil.NoSuchProcess:
                break
    return "a process that this user can't see"


# --- finding and ending ---


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A running session of this user on this machine. `arena` is mapped, but not joined."""

    record: SessionRecord
    arena: _kernel.Arena


def find_sessions() -> list[Found]:
    """All of this user's, in the order of their ports. One that does not answer in time is left out."""
    found = []
    for port in handshake.ports_of(os.getuid()):
        try:
            admitted = handshake.connect(port, ANSWER_S)
        except handshake.IncompatibleError as error:
            say(f"the session with port {port} is left out: {error}, which this release does not understand.")
            continue
        except OSError:  # it ends, or does not answer; or somebody else has its name
            continue
        with admitted:
            try:
                arena = _kernel.Arena.attach(admitted.arena_fd)
                found.append(Found(SessionRecord.load(arena.session()), arena))
            except (_kernel.KernelError, RaySystemError):  # of another release
                continue
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
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if not poller.poll(END_MS):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            end_session(record.token)
    return named
