"""Network addresses as users write them."""

import dataclasses
import os

from ray.errors import InitError, RayConnectionError

LOOPBACK = "127.0.0.1"
EVERY_ADDRESS = ("0.0.0.0", "::")  # of a machine, for servers; no address that another one could call


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """A numeric IP address and a TCP port, and the host as it was written, whose address may change."""

    host: str
    port: int
    written: str = dataclasses.field(default="", compare=False)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """From "host:port" or "[ipv6]:port"; a host's name is looked up, which may block.

        Raises InitError for text of another form, RayConnectionError for a name that nobody knows.
        """
        host, colon, port = text.strip().rpartition(":")
        if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
            raise InitError(f"redis_address must be 'host:port', for example '127.0.0.1:6379', not {text!r}.")
        written = host.removeprefix("[").removesuffix("]")
        return cls(resolve_host(written, "redis_address"), int(port), written)


def resolve_host(host: str, argument: str) -> str:
    """The numeric address of a host; IPv4 where it has one."""
    # No look-up, and no import of `socket`, for what is numeric already.
    if host.count(".") == 3 and all(part.isdigit() and int(part) < 256 for part in host.split(".")):
        return host
    import socket

    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RayConnectionError(
            f"{argument}: the host {host!r} can't be resolved to an IP address ({error}). Check the "
            "spelling, or give the IP address itself.",
            host,
        ) from None
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return str(found[0][4][0])


def check_is_local(host: str) -> None:
    """Raises InitError unless a server can bind to this address here."""
    if host == LOOPBACK:
        return
    if host in EVERY_ADDRESS:
        raise InitError(
            f"node_ip_address={host!r} is no address that others could call. Give the one of this machine by "
            "which the others reach it, of those that `ip address` lists."
        )
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise InitError(
                f"node_ip_address={host!r} is not an address of this machine "
                f"({os.strerror(error.errno or 0)}). Give one that `ip address` lists, or leave it out for "
                f"{LOOPBACK}."
            ) from None
