"""Joining a session that another process has started on this machine: of this user, or of one whose cluster
this user has the token of."""

import os
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import ray
from ray import _kernel
from ray.config import Config
from ray.core import script_code
from ray.core.kernel_errors import translated
from ray.core.logs import STREAMS, of_job
from ray.core.session_state import SILENT_MODE
from ray.errors import ClusterTokenError, InitError, RayConnectionError, RayError
from ray.session import handshake, jobs
from ray.session.addresses import Address
from ray.session.code_giver import CodeGiver
from ray.session.handshake import Admitted
from ray.session.options import SessionOptions
from ray.session.record import PYTHON, SessionRecord
from ray.session.session import Session
from ray.session.start import absolute, root_id

OWNERS_MAX = 16  # of sockets for one port: anyone may make one
LEAST_WAIT_S = 0.001


def attach_session(options: SessionOptions) -> Session:
    """Joins the session at `options.redis_address` as one more driver. Leaving it stops nothing.

    Waits for the session's keeper, for `connect_ms` at most. Raises RayConnectionError that says what
    was found at the address instead of a session that admits this user, ClusterTokenError when the token at
    hand can't be used.
    """
    address = options.redis_address
    assert address is not None
    admitted, arena, record = _found(address, options)
    with admitted:
        code = script_code.script_folder()
        description = None if code is None else script_code.describe(code)
        _register(arena, options, description)
        try:
            if admitted.spill_fd >= 0:
                arena.set_spill_file(admitted.spill_fd, 0)
            output = {} if options.driver_mode == SILENT_MODE else _output(admitted, record, arena.job)
        except OSError as error:
            arena.leave()
            raise RayConnectionError.nobody_listens(str(address), f"its keeper process: {error}") from None
        except _kernel.KernelError as error:
            arena.leave()
            raise translated(error, "ray.init") from None
    arena.make_current()
    session = Session(arena, record, Config.of_session(record.settings), keeper=None, output=output)
    if code is not None and description is not None and record.cluster_token:
        try:
            session.give_code(CodeGiver(arena, code, options.driver_mode == SILENT_MODE))
        except RayError:
            session.end()
            raise
    return session


def _register(arena: _kernel.Arena, options: SessionOptions, code: dict[str, Any] | None) -> None:
    job = root_id(options.object_id_seed)
    try:
        arena.register(_kernel.DRIVER, job)
        jobs.write_start(arena, job, absolute(sys.path), code)
    except _kernel.KernelError as error:
        if type(error) is _kernel.KernelError and options.object_id_seed is not None:
            raise InitError(
                f"Another driver of this session runs with object_id_seed={options.object_id_seed} already, "
                "and the two would give the same ids to different objects. Choose another seed, or wait for "
                "its end."
            ) from None
        raise translated(error, "ray.init") from None


def _output(admitted: Admitted, record: SessionRecord, job: int) -> dict[int, str | int]:
    """Where what the job's tasks print is found: a path, or a descriptor of a file that this user may not
    open."""
    if not record.is_standalone or not record.logs:
        return {}
    if not admitted.is_other:
        return {stream: os.path.join(record.logs, of_job(job, stream)) for stream in STREAMS}
    return dict(zip(STREAMS, admitted.output(job), strict=False))


# --- finding it, and being admitted ---

Found = tuple[Admitted, _kernel.Arena, SessionRecord]


def _found(address: Address, options: SessionOptions) -> Found:
    """A session of this user's, the head's before those of nodes that have joined it; else one of others."""
    timeout_ms = options.config.connect_ms
    deadline = time.monotonic() + timeout_ms / 1000
    unfit: list[str] = []
    for node_port in _own_node_ports(address.port):
        try:
            admitted = handshake.connect(
                address.port, max(deadline - time.monotonic(), LEAST_WAIT_S), node_port
            )
        except ConnectionRefusedError:
            continue
        except OSError as error:
            raise _problem(address, error, timeout_ms) from None
        if found := _fitting(admitted, address, options.node_ip_address, unfit):
            return found
    owners = [each for each in handshake.open_sockets(port=address.port) if each.uid != os.getuid()][
        :OWNERS_MAX
    ]
    if owners:
        return _found_with_token(address, options, owners, deadline, unfit)
    raise RayConnectionError.nobody_listens(str(address), unfit[0] if unfit else _reason(address, timeout_ms))


def _own_node_ports(port: int) -> Iterator[int]:
    yield 0  # without a look at all sockets, where it will do
    for each in handshake.open_sockets(uid=os.getuid(), port=port):
        if each.node_port:
            yield each.node_port


def _fitting(admitted: Admitted, address: Address, node_ip: str, unfit: list[str]) -> Found | None:
    """What was handed out, if it is the session that is meant; else why not, in `unfit`."""
    try:
        arena = _kernel.Arena.attach(admitted.arena_fd)
        record = SessionRecord.load(arena.session())
    except _kernel.KernelError as error:
        admitted.close()
        raise translated(error, "ray.init") from None
    except BaseException:
        admitted.close()
        raise
    if record.python not in ("", PYTHON):
        admitted.close()
        raise RayConnectionError.other_python(str(address), record.python, PYTHON)
    if record.redis_address != str(address):
        unfit.append(f"the session with this port is at {record.redis_address}")
    elif node_ip not in ("", record.node_ip_address):
        unfit.append(f"the node here has the address {record.node_ip_address}, not {node_ip}")
    elif record.leaves_by_ms is not None:
        unfit.append("the node here is being drained, and is about to leave the cluster")
    else:
        return admitted, arena, record
    admitted.close()
    return None


def _found_with_token(
    address: Address,
    options: SessionOptions,
    owners: list[handshake.OpenSocket],
    deadline: float,
    unfit: list[str],
) -> Found:
    """A session of another user's. Anyone may make a socket for this port; who is no keeper of the cluster is
    passed over."""
    from ray.session import tokens
    from ray.wire.token import ClusterToken

    path = tokens.to_show(address.port)
    key: bytes | None = None
    unusable: ClusterTokenError | None = None
    try:
        if path is not None:
            key = tokens.admission_key(ClusterToken.load(path))
    except ClusterTokenError as error:
        unusable = error
    problems: list[RayError] = []
    for number, (owner, port, node_port) in enumerate(owners):
        time_s = max((deadline - time.monotonic()) / (len(owners) - number), LEAST_WAIT_S)
        try:
            admitted = handshake.connect_as_other(owner, port, key, time_s, node_port)
        except handshake.OwnUserOnlyError:
            reason = (
                f"the session at this port was started by a script of the user with id {owner}, and admits "
                f"its own user only; this process runs as {os.getuid()}"
            )
            problems.append(RayConnectionError.nobody_listens(str(address), reason))
        except handshake.TokenRefusedError:
            place = tokens.of_port(port)
            wrong = unusable or RayConnectionError.token_needed(str(address), owner, os.getuid(), path, place)
            problems.insert(0, wrong)
        except OSError as error:
            problems.append(_problem(address, error, options.config.connect_ms))
        else:
            if found := _fitting(admitted, address, options.node_ip_address, unfit):
                return found
    problems += [RayConnectionError.nobody_listens(str(address), reason) for reason in unfit]
    raise problems[0]


def _problem(address: Address, error: OSError, timeout_ms: int) -> RayConnectionError:
    match error:
        case TimeoutError():
            reason = (
                f"its keeper process did not answer within {timeout_ms} ms: it is stopped, or the machine is "
                "overloaded"
            )
            return RayConnectionError.nobody_listens(str(address), reason)
        case handshake.IncompatibleError():
            return RayConnectionError.incompatible(str(address), error.release, ray.__version__)
    return RayConnectionError.nobody_listens(str(address), str(error))


def _reason(address: Address, timeout_ms: int) -> str:
    """Why there may be no session at the address."""
    try:
        with socket.create_connection((address.host, address.port), min(timeout_ms, 1_000) / 1000):
            return (
                "something else listens there, or the head of a cluster on another machine: then `ray start "
                f"--redis-address={address}` makes this one a node of it, which scripts here can join"
            )
    except OSError:
        return "nothing listens there"
