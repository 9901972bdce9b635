"""Whether a server that is there already will do as a control store: looked at before anything is started."""

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import hiredis

from ray.control_store import hold, schema
from ray.control_store.hold import Holder
from ray.control_store.url import StoreUrl
from ray.errors import InitError, RayConnectionError

TIMEOUT_S = 5.0
READ_BYTES = 65_536
LEAST_VERSION = (6, 0)  # streams with a length, users with rights
SERVER_NAMES = {"valkey": "Valkey", "redis": "Redis"}
KEEPS_ALL = "noeviction"
PROBE = "ray:probe"
KEYS_AT_ONCE = 1_000


def check(url: StoreUrl, own: Holder | None = None) -> list[str]:
    """Returns what the operator is to know, a line each. Blocks for some round trips; for some seconds when a
    head may have died that had it before.

    The database is the head's `own` then: `hand_over` or `let_go` follow.

    Raises RayConnectionError when nobody answers there, InitError when the server won't do, each with the
    reason and what to change.
    """
    with StoreSession.opened(url) as session:
        session.log_in()
        info = session.info()
        check_version(url, info)
        if info.get("redis_mode") == "cluster":
            raise _unfit(
                url, "it is one of a Redis cluster, which has neither databases nor transactions over keys"
            )
        if info.get("role") == "slave":
            raise _unfit(url, "it is a replica, which takes no changes: name its primary")
        policy = info.get("maxmemory_policy", KEEPS_ALL)
        if policy != KEEPS_ALL:
            raise _unfit(
                url,
                f"it throws keys away when its memory is full (maxmemory-policy {policy}): set it to "
                f"{KEEPS_ALL}",
            )
        session.must(("SELECT", str(url.database)), f"its database {url.database} can't be used")
        _check_rights(url, session)
        if own is not None and (other := hold.take(session.ask, own)) is not None:
            raise _unfit(url, _used_by(url, str(other)))
        try:
            _check_is_unused(url, session)
            _clear(url, session)
        except BaseException:
            if own is not None:
                hold.let_go(session.ask, own)
            raise
        return _notices(url, info)


def hand_over(url: StoreUrl, own: Holder) -> None:
    """The head runs now: `own` names its process and address. Raises RayConnectionError."""
    with StoreSession.opened(url) as session:
        _log_in(url, session)
        hold.hand_over(session.ask, own)


def let_go(url: StoreUrl, own: Holder) -> None:
    """No head has come about. Raises RayConnectionError."""
    with StoreSession.opened(url) as session:
        _log_in(url, session)
        hold.let_go(session.ask, own)


def _log_in(url: StoreUrl, session: "StoreSession") -> None:
    session.log_in()
    session.ask("SELECT", str(url.database))


def check_version(url: StoreUrl, info: dict[str, str]) -> None:
    name = info.get("server_name", "redis")
    text = info.get(f"{name}_version") or info.get("redis_version", "")
    numbers = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if numbers < LEAST_VERSION:
        least = ".".join(map(str, LEAST_VERSION))
        what = f"{SERVER_NAMES.get(name, name)} {text or 'of an unknown version'}"
        raise _unfit(url, f"it is {what}, and at least {least} is needed")


def _check_rights(url: StoreUrl, session: "StoreSession") -> None:
    """By doing once what is done later."""
    denied = {}
    hash_key, stream, text = (f"{PROBE}:{os.urandom(4).hex()}:{kind}" for kind in ("hash", "stream", "text"))
    for command in (
        ("HSET", hash_key, "a", "1"),
        ("HGETALL", hash_key),
        ("HDEL", hash_key, "a"),
        ("XADD", stream, "MAXLEN", "1", "1-0", "a", "1"),
        ("XRANGE", stream, "-", "+"),
        ("SET", text, "1"),
        ("GET", text),
        ("EXPIRE", text, "60"),
        ("EXISTS", text),
        ("PTTL", text),
        ("WATCH", text),
        ("SCAN", "0", "MATCH", f"{PROBE}:*", "COUNT", "1"),
        ("MULTI",),
        ("EXEC",),
        ("UNLINK", hash_key, stream, text),
    ):
        reply = session.ask(*command)
        if isinstance(reply, hiredis.ReplyError):
            denied[command[0]] = str(reply)
    if denied:
        who = f"the user {url.user!r}" if url.user else "its default user"
        first = next(iter(denied.values()))
        raise _unfit(
            url,
            f"{who} may not {', '.join(denied)} on keys that begin with ray: (it says: {first}). "
            "`ACL SETUSER NAME on >PASSWORD ~ray:* +@all -@dangerous +info` is enough",
        )


def _check_is_unused(url: StoreUrl, session: "StoreSession") -> None:
    """Two clusters must not share a database. One whose head does not answer any more has left its keys."""
    place = session.ask("HGET", schema.SESSION, "link_address")
    if not isinstance(place, bytes):
        return
    host, _, port = place.decode(errors="replace").strip('"').rpartition(":")
    if port.isdigit() and _answers(host.strip("[]"), int(port)):
        raise _unfit(
            url,
            _used_by(url, f"one with its head at {host}:{port}"),
        )


def _used_by(url: StoreUrl, who: str) -> str:
    return (
        f"another cluster uses its database {url.database}, {who}: stop that one, or give this one another "
        "number"
    )


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _clear(url: StoreUrl, session: "StoreSession") -> None:
    """What an earlier cluster has left: the numbers of its jobs and errors are not this one's.

    Without its session's record they are not a cluster's, and somebody may need them: they stay.
    """
    is_ours = session.ask("EXISTS", schema.SESSION) == 1
    place = b"0"
    while True:
        place, keys = session.ask("SCAN", place, "MATCH", "ray:*", "COUNT", str(KEYS_AT_ONCE))
        # The record is the last to go: a head that is killed amid this leaves it to the next.
        stay = (schema.SESSION.encode(), schema.HEAD.encode())
        keys = [key for key in keys if key not in stay and not key.startswith(PROBE.encode())]
        if keys and not is_ours:
            example = keys[0].decode(errors="replace")
            raise _unfit(
                url,
                f"its database {url.database} has keys that begin with ray:, such as {example}, and are not "
                "of an earlier cluster of this kind: give this one another number, or remove them",
            )
        if keys:
            session.ask("UNLINK", *keys)
        if place == b"0":
            break
    session.ask("UNLINK", schema.SESSION)


def _notices(url: StoreUrl, info: dict[str, str]) -> list[str]:
    notices = []
    if info.get("aof_enabled") == "0":
        notices.append(
            f"the control store at {url} keeps no append-only file: what it has is lost with its machine."
        )
    if not url.has_tls and not _is_here(url.host):
        notices.append(
            f"the way to the control store at {url} is not encrypted: its password can be read on the way. "
            "rediss:// would be."
        )
    return notices


def _is_here(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


class StoreSession:
    """One connection, which waits for each reply."""

    def __init__(self, url: StoreUrl, connection: socket.socket) -> None:
        self.url = url
        self.connection = connection
        self._replies = hiredis.Reader()

    @classmethod
    @contextlib.contextmanager
    def opened(cls, url: StoreUrl) -> Iterator["StoreSession"]:
        """Whatever goes wrong with the connection, as an error that names the store."""
        try:
            with connection_to(url) as connection:
                yield cls(url, connection)
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or error.reason or str(error)
            raise _unreachable(url, f"TLS: {reason}") from None
        except (OSError, hiredis.ProtocolError) as error:
            if isinstance(error, RayConnectionError):
                raise
            raise _unreachable(url, getattr(error, "strerror", None) or str(error)) from None

    def ask(self, *command: str | bytes) -> Any:
        self.connection.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]
        while (reply := self._replies.gets()) is False:
            data = self.connection.recv(READ_BYTES)
            if not data:
                raise ConnectionResetError("it has closed the connection; perhaps it expects TLS (rediss://)")
            self._replies.feed(data)
        return reply

    def must(self, command: tuple[str, ...], problem: str) -> Any:
        reply = self.ask(*command)
        if isinstance(reply, hiredis.ReplyError):
            raise _unfit(self.url, f"{problem} (it says: {reply})")
        return reply

    def log_in(self) -> None:
        if self.url.login:
            who = f"user {self.url.user!r}" if self.url.user else "default user"
            self.must(self.url.login, f"it does not let the {who} in with the password of the URL")
        else:
            self.must(("PING",), "it wants a password, and the URL has none")

    def info(self) -> dict[str, str]:
        text = self.must(("INFO",), "it does not say what it is: the right to INFO is needed")
        pairs = (line.partition(":") for line in text.decode(errors="replace").splitlines() if ":" in line)
        return {name: value.strip() for name, _, value in pairs}


def connection_to(url: StoreUrl, timeout_s: float = TIMEOUT_S) -> socket.socket:
    """TCP, and TLS where the URL says so: certificates are checked as the system does. Raises OSError."""
    plain = socket.create_connection((url.host, url.port), timeout_s)
    if not url.has_tls:
        return plain
    try:
        return ssl.create_default_context().wrap_socket(plain, server_hostname=url.host)
    except BaseException:
        plain.close()
        raise


def _unreachable(url: StoreUrl, reason: str) -> RayConnectionError:
    return RayConnectionError(
        f"The control store at {url} can't be reached: {reason}. Check host, port and whether it speaks TLS "
        "(rediss://) or not (redis://).",
        url.address,
    )


def _unfit(url: StoreUrl, reason: str) -> InitError:
    return InitError(f"The server at {url} can't be this cluster's control store: {reason}.")
