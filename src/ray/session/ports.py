"""The ports that a node listens on: whether they are free, and who has them."""

import contextlib
import errno
import os
import socket

from ray.control_store.server import PORT_ATTEMPTS, random_port
from ray.errors import InitError, RayConnectionError
from ray.session.addresses import LOOPBACK

DEFAULT_PORT = 6379  # of the control store; who knows no other looks there
ANY_PORT = 0


def for_control_store(hosts: list[str], wanted: int | None) -> int:
    """The port asked for; the usual one if that is free on all these addresses, else ANY_PORT.

    Raises InitError, which names the holder, when the one asked for is taken.
    """
    if wanted is None:
        return DEFAULT_PORT if all(is_free(host, DEFAULT_PORT) for host in hosts) else ANY_PORT
    for host in hosts:
        _must_be_free(host, wanted, "--redis-port")
    return wanted


def listen_for_links(host: str, wanted: int | None, option: str = "--object-manager-port") -> socket.socket:
    """A socket that listens at the port asked for, or at a free one. Raises InitError as above."""
    try:
        return _listening(host, wanted or ANY_PORT)
    except OSError as error:
        raise _refused(host, wanted or ANY_PORT, option, error) from None


def listen_beside_control_store(host: str, wanted: int) -> socket.socket:
    """The same for a head that has one port, where the control store has that port on loopback."""
    if wanted != ANY_PORT:
        return listen_for_links(host, wanted, "--redis-port")
    for _ in range(PORT_ATTEMPTS):
        port = random_port()
        if is_free(LOOPBACK, port):
            with contextlib.suppress(OSError):
                return _listening(host, port)
    raise InitError(f"No free port was found on {host}; name one with --redis-port.")


def is_free(host: str, port: int) -> bool:
    try:
        _listening(host, port).close()
    except OSError:
        return False
    return True


def _listening(host: str, port: int) -> socket.socket:
    """Raises OSError: somebody else listens there, or this user may not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


def holder(port: int) -> str:
    """Who listens at that port, in words."""
    import psutil

    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
            try:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
            except psutil.NoSuchProcess:
                break
    return "a process that this user can't see"


def is_loopback(host: str) -> bool:
    """Whether other machines can't reach this address, numeric, of this machine."""
    return host == "::1" or host.startswith("127.")


def source_address(host: str) -> str:
    """The address of this machine from which it reaches `host`. Raises RayConnectionError: it does not."""
    if is_loopback(host):
        return host if ":" in host else LOOPBACK
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:  # nothing is sent
        try:
            probe.connect((host, DEFAULT_PORT))
        except OSError as error:
            raise RayConnectionError(
                f"This machine has no way to {host} ({os.strerror(error.errno or 0)}). Check the address, "
                "and the network of this machine.",
                host,
            ) from None
        found: str = probe.getsockname()[0]
    return found


def _must_be_free(host: str, port: int, option: str) -> None:
    if port == ANY_PORT:
        return
    try:
        _listening(host, port).close()
    except OSError as error:
        raise _refused(host, port, option, error) from None


def _refused(host: str, port: int, option: str, error: OSError) -> InitError:
    if error.errno != errno.EADDRINUSE:
        hint = "; small ones are for root" if error.errno == errno.EACCES else ""
        return InitError(
            f"This user can't listen at port {port} on {host}: {os.strerror(error.errno or 0)}. Choose "
            f"another with {option}{hint}."
        )
    return InitError(
        f"Port {port} on {host} is taken by {holder(port)}. Choose another with {option}, or leave "
        "that out: then a free one is found."
    )
