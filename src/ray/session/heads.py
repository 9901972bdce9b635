"""What a node must know of the head that it joins, asked of the head's control store."""

import contextlib
import dataclasses
import socket
import time
from collections.abc import Iterator
from typing import Any

import ray
from ray.control_store.asking import AnswerError, RefusedError, session_of
from ray.errors import IncompatiblePeerError, RayConnectionError, WrongTokenError
from ray.session import tokens
from ray.session.addresses import LOOPBACK, Address
from ray.session.ports import is_loopback
from ray.session.record import PYTHON
from ray.wire.token import ClusterToken

PAUSE_S = 0.05  # between two looks: the head's node manager writes its session a moment after its start
TRY_S = 2.0  # for one connection


@dataclasses.dataclass(frozen=True, slots=True)
class HeadFacts:
    """A head as the nodes that join it need it."""

    redis_address: str  # as users write it
    redis_shards: list[str]
    control_store: list[str]  # "ip:port" of the servers, where they can be reached from here; else empty
    link_address: str
    custom_resource_name: str = ""


def find_head(address: Address, token: ClusterToken, timeout_ms: int) -> HeadFacts:
    """Waits until the head there has said what it is, `timeout_ms` at most.

    A head on a loopback address is asked at its control store itself; any other through its one port, over
    TLS. Raises RayConnectionError: WrongTokenError for a head of another cluster.
    """
    deadline = time.monotonic() + timeout_ms / 1000
    while True:
        record = _asked(address, token)
        if record.get("link_address"):
            _check_versions(address, record)
            return HeadFacts(
                record["redis_address"],
                record["redis_shards"],
                record["control_store"] if is_loopback(address.host) else [],
                record["link_address"],
                record.get("custom_resource_name", ""),
            )
        if time.monotonic() > deadline:
            raise RayConnectionError.nobody_listens(
                str(address), "its control store answers, but its node manager has not come up"
            )
        time.sleep(PAUSE_S)


def check_listening(address: Address) -> None:
    """Raises RayConnectionError when nobody listens there at all, which can be said without a token."""
    try:
        socket.create_connection(_place(address), TRY_S).close()
    except OSError as error:
        raise RayConnectionError.nobody_listens(str(address), error.strerror or str(error)) from None


def _check_versions(address: Address, record: dict[str, Any]) -> None:
    """Before a node is started that could not work with the head's."""
    from ray.wire.messages import PROTOCOL

    theirs = record.get("link_protocol") or PROTOCOL
    if theirs != PROTOCOL:
        release = record.get("release", "")
        raise IncompatiblePeerError(str(address), ray.__version__, PROTOCOL, release, theirs)
    if record.get("python") not in ("", None, PYTHON):
        raise RayConnectionError.other_python(str(address), record["python"], PYTHON)


def _asked(address: Address, token: ClusterToken) -> dict[str, Any]:
    try:
        with _connection(address, token) as connection:
            return session_of(connection, tokens.password(token))
    except RefusedError:
        raise WrongTokenError(str(address)) from None
    except AnswerError:
        raise RayConnectionError.nobody_listens(
            str(address), "what listens there is no control store"
        ) from None
    except RayConnectionError:
        raise
    except OSError as error:
        raise RayConnectionError.nobody_listens(str(address), error.strerror or str(error)) from None


def _place(address: Address) -> tuple[str, int]:
    """The control store itself is at one loopback address, whichever of them the head has been given."""
    return LOOPBACK if is_loopback(address.host) else address.host, address.port


@contextlib.contextmanager
def _connection(address: Address, token: ClusterToken) -> Iterator[socket.socket]:
    if is_loopback(address.host):
        with socket.create_connection(_place(address), TRY_S) as plain:
            yield plain
        return
    from ray.wire.connecting import open_socket
    from ray.wire.identity import REDIS, Identity

    with open_socket(str(address), Identity.of(token), REDIS, TRY_S) as secure:
        yield secure
