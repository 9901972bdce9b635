"""How a driver that joins a running session gets the arena's descriptor.

The keeper listens on the abstract Unix socket `\\0ray-<uid>-<port>`, port being that of Redis. It reads
nothing: who connects is known by the peer credentials that the system gives (SO_PEERCRED, unix(7)),
is sent one message, and the connection is closed. Both sides insist on their own user id: abstract
names can be taken by anyone.
"""

import array
import errno
import os
import socket
import struct
from collections.abc import Iterator

from ray.session.names import socket_name

# What both sides must have alike: this message, the arena's layout, the session's record. Followed by a
# space and the release of who has started the session.
PROTOCOL = 3
_MAGIC_OF_ANY = b"ray-arena-"
MAGIC = b"%b%d" % (_MAGIC_OF_ANY, PROTOCOL)
MESSAGE_BYTES = 128
REFUSED = b"ray-refused"
BACKLOG = 64


class PeerRefusedError(OSError):
    """The other side belongs to another user, or does not speak this protocol."""


class IncompatibleError(OSError):
    """The session was started by a release that this one does not understand."""

    def __init__(self, release: str) -> None:
        super().__init__(f"it was started by raycore {release or '(an early one)'}")
        self.release = release


def _address(uid: int, port: int) -> str:
    return "\0" + socket_name(uid, port)[1:]


def peer_uid(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid: int = struct.unpack("3i", credentials)[1]
    return uid


class Listener:
    """The keeper's side. Nothing here waits for a peer."""

    def __init__(self, arena_fd: int, release: str) -> None:
        self.arena_fd = arena_fd
        self.release = release
        self.uid = os.getuid()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self.fd = self._socket.fileno()

    def bind(self, port: int) -> bool:
        """False when another process has the name."""
        try:
            self._socket.bind(_address(self.uid, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        self._socket.listen(BACKLOG)
        return True

    def close(self) -> None:
        self._socket.close()

    def serve(self) -> None:
        """Answers everybody who has connected so far."""
        while True:
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError:
                continue  # it has left again
            with connection:
                connection.setblocking(False)
                try:
                    answer(connection, self.arena_fd, self.uid, self.release)
                except OSError:
                    continue


def answer(connection: socket.socket, arena_fd: int, uid: int, release: str) -> None:
    """Sends the descriptor to a peer of this user, a refusal to others."""
    if peer_uid(connection) != uid:
        connection.send(REFUSED)
        return
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [arena_fd]))
    connection.sendmsg([MAGIC, b" ", release.encode()[: MESSAGE_BYTES // 2]], [rights])


def connect(port: int, timeout_s: float) -> int:
    """The descriptor of the arena of this user's session at that port; the caller closes it.

    Raises ConnectionRefusedError when there is no such session, TimeoutError when its keeper does not
    answer in time, IncompatibleError when it is of another release, PeerRefusedError when the answer is not
    to be trusted.
    """
    # Python's own time-out makes the socket non-blocking, and then a full backlog is an error at once.
    limit = struct.pack("@ll", int(timeout_s), int(timeout_s % 1 * 1_000_000))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        try:
            connection.connect(_address(os.getuid(), port))
            return receive(connection)
        except BlockingIOError:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None


def receive(connection: socket.socket) -> int:
    owner = peer_uid(connection)
    if owner != os.getuid():
        raise PeerRefusedError(f"{connection.getpeername()!r} is held by user {owner}, not by this user")
    room = socket.CMSG_LEN(array.array("i").itemsize)
    message, ancillary, _, _ = connection.recvmsg(MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    magic, _, release = message.partition(b" ")
    if magic == MAGIC and len(fds) == 1:
        return fds[0]
    for fd in fds:
        os.close(fd)
    if not message:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "the session is ending")
    if magic.startswith(_MAGIC_OF_ANY) and magic != MAGIC:
        raise IncompatibleError(release.decode(errors="replace"))
    raise PeerRefusedError("the answer was a refusal, or not this package's protocol")


def owners_of(port: int) -> list[int]:
    """User ids that have a session's socket for this port open."""
    return sorted({uid for uid, each in _open_sockets() if each == port})


def ports_of(uid: int) -> list[int]:
    """Ports that a user has a session's socket for."""
    return sorted({port for each, port in _open_sockets() if each == uid})


def _open_sockets() -> Iterator[tuple[int, int]]:
    """User id and port in the names of sessions' sockets (from /proc/net/unix); anyone can take a name."""
    with open("/proc/net/unix", encoding="ascii", errors="replace") as table:
        for line in table:
            name = line.rsplit(None, 1)[-1]
            prefix, _, last = name.rpartition("-")
            if prefix.startswith("@ray-") and prefix[5:].isdigit() and last.isdigit():
                yield int(prefix[5:]), int(last)
