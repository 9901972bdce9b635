"""Joining a session that another process of the same user has started on this machine."""

import os
import socket
import sys

import ray
from ray import _kernel
from ray.config import Config
from ray.core.kernel_errors import translated
from ray.errors import InitError, RayConnectionError
from ray.session import handshake, jobs
from ray.session.addresses import Address
from ray.session.options import SessionOptions
from ray.session.record import SessionRecord
from ray.session.session import Session
from ray.session.start import absolute, root_id


def attach_session(options: SessionOptions) -> Session:
    """Joins the session at `options.redis_address` as one more driver. Leaving it stops nothing.

    Waits for the session's keeper, for `connect_ms` at most. Raises RayConnectionError that says what
    was found at the address instead of a session of this user.
    """
    address = options.redis_address
    assert address is not None
    fd = _receive(address, options.config.connect_ms)
    try:
        arena = _kernel.Arena.attach(fd)
    except _kernel.KernelError as error:
        raise translated(error, "ray.init") from None
    finally:
        os.close(fd)
    record = SessionRecord.load(arena.session())
    if record.redis_address != str(address):
        raise RayConnectionError.nobody_listens(
            str(address), f"the session with this port is at {record.redis_address}"
        )
    job = root_id(options.object_id_seed)
    try:
        arena.register(_kernel.DRIVER, job)
        jobs.write_start(arena, job, absolute(sys.path))
    except _kernel.KernelError as error:
        if type(error) is _kernel.KernelError and options.object_id_seed is not None:
            raise InitError(
                f"Another driver of this session runs with object_id_seed={options.object_id_seed} already, "
                "and the two would give the same ids to different objects. Choose another seed, or wait for "
                "its end."
            ) from None
        raise translated(error, "ray.init") from None
    arena.make_current()
    return Session(arena, record, Config.with_overrides(record.settings), keeper=None)


def _receive(address: Address, timeout_ms: int) -> int:
    try:
        return handshake.connect(address.port, timeout_ms / 1000)
    except ConnectionRefusedError:
        raise RayConnectionError.nobody_listens(str(address), _reason(address, timeout_ms)) from None
    except TimeoutError:
        raise RayConnectionError.nobody_listens(
            str(address),
            f"its keeper process did not answer within {timeout_ms} ms: it is stopped, or the machine is "
            "overloaded",
        ) from None
    except handshake.IncompatibleError as error:
        raise RayConnectionError.incompatible(str(address), error.release, ray.__version__) from None
    except handshake.PeerRefusedError as error:
        raise RayConnectionError.nobody_listens(str(address), str(error)) from None


def _reason(address: Address, timeout_ms: int) -> str:
    """Why there may be no session of this user at the address."""
    others = [uid for uid in handshake.owners_of(address.port) if uid != os.getuid()]
    if others:
        return (
            f"the session at this port was started by the user with id {others[0]}; a session that a script "
            f"has started admits its own user only, and this process runs as {os.getuid()}"
        )
    try:
        with socket.create_connection((address.host, address.port), min(timeout_ms, 1_000) / 1000):
            return "something else listens there, or the session is on another machine"
    except OSError:
        return "nothing listens there"
