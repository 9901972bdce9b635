"""How a driver that joins a running session gets the arena's descriptor: its own side, and the messages.

The keeper listens on the abstract Unix socket `\\0ray-<uid>-<port>`, port being that of the control store
(`ray.session.listener`). Both sides know each other by the peer credentials that the system gives
(SO_PEERCRED, unix(7)): abstract names can be taken by anyone. A driver of the same user is sent one
message, and nothing is read of it. One of another user must show that it knows the cluster's token, and so
must the keeper (`ray.session.admission`); then it may ask once for the output of its job. Each message is a
packet of words with one space between them:

    same user         keeper: MAGIC release
    another           keeper: CHALLENGE release nonce    or REFUSED: this session has no token
                      driver: PROOF nonce proof
                      keeper: MAGIC release proof        or WRONG_TOKEN
                      driver: OUTPUT job
                      keeper: OUTPUT                     without descriptors: this session keeps no output

With MAGIC come the descriptors of the arena and, if the keeper has one, of the spill file; with OUTPUT
those of the files with what the job's tasks print.
"""

import array
import errno
import os
import socket
import struct
from typing import NamedTuple

from ray.session import admission
from ray.session.names import parts_of, socket_name

# What both sides must have alike: these messages, the arena's layout, the session's record.
PROTOCOL = 5
_MAGIC_OF_ANY = b"ray-arena-"
MAGIC = b"%b%d" % (_MAGIC_OF_ANY, PROTOCOL)
_CHALLENGE_OF_ANY = b"ray-challenge-"
CHALLENGE = b"%b%d" % (_CHALLENGE_OF_ANY, PROTOCOL)
PROOF = b"ray-proof"
OUTPUT = b"ray-output"
REFUSED = b"ray-refused"
WRONG_TOKEN = b"ray-wrong-token"
MESSAGE_BYTES = 256
RELEASE_BYTES = 64  # of the release's name, at most
FDS_MAX = 2


class PeerRefusedError(OSError):
    """The other side belongs to another user, or does not speak this protocol."""


class OwnUserOnlyError(PeerRefusedError):
    """The session admits its own user only: a script has started it."""


class TokenRefusedError(PeerRefusedError):
    """The two sides don't know the same token; the other one may not be a session of this cluster at all."""


class IncompatibleError(OSError):
    """The session was started by a release that this one does not understand."""

    def __init__(self, release: str) -> None:
        super().__init__(f"it was started by raycore {release or '(an early one)'}")
        self.release = release


def address_of(name: str) -> str:
    """For `socket.bind` and `connect`, of a name as tools show it."""
    return "\0" + name[1:]


def peer_uid(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid: int = struct.unpack("3i", credentials)[1]
    return uid


def rights(*fds: int) -> list[tuple[int, int, "array.array[int]"]]:
    """Descriptors as `sendmsg` takes them."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []


class Admitted:
    """What a keeper has handed out; whoever gets it closes it.

    `arena_fd` and `spill_fd` are descriptors; the latter is -1 where the keeper has no spill file.
    `is_other` says that the session is another user's.
    """

    def __init__(self, fds: list[int], connection: socket.socket | None = None) -> None:
        self.arena_fd = fds[0]
        self.spill_fd = fds[1] if len(fds) > 1 else -1
        self.is_other = connection is not None
        self._fds = fds
        self._connection = connection

    def output(self, job: int) -> list[int]:
        """Descriptors, which the caller closes, of the files with what this job's tasks print; empty if
        there are none. Of another user's session only, and once. Raises OSError when the keeper does not
        answer."""
        assert self._connection is not None
        self._connection.send(b"%b %d" % (OUTPUT, job))
        words, fds = _receive(self._connection)
        if words == [OUTPUT] and len(fds) in (0, FDS_MAX):
            return fds
        _close(fds)
        raise PeerRefusedError("the session's keeper did not hand out the output of its tasks")

    def close(self) -> None:
        _close(self._fds)
        self._fds = []
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> "Admitted":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(port: int, timeout_s: float, node_port: int = 0) -> Admitted:
    """This user's own session with these ports, as in its socket's name.

    Raises ConnectionRefusedError when there is no such session, TimeoutError when its keeper does not
    answer in time, IncompatibleError when it is of another release, PeerRefusedError when the answer is not
    to be trusted.
    """
    with _connection(socket_name(os.getuid(), port, node_port), os.getuid(), timeout_s) as connection:
        return receive(connection)


def receive(connection: socket.socket) -> Admitted:
    """The keeper's one message to a driver of its own user."""
    words, fds = _receive(connection)
    if words[0] == MAGIC and fds:
        return Admitted(fds)
    _close(fds)
    raise _refusal(words)


def connect_as_other(
    uid: int, port: int, key: bytes | None, timeout_s: float, node_port: int = 0
) -> Admitted:
    """The session with these ports of the user `uid`, if it is of the cluster with this admission key.

    Raises as `connect` does; OwnUserOnlyError; TokenRefusedError, always when there is no key.
    """
    name = socket_name(uid, port, node_port)
    connection = _connection(name, uid, timeout_s)
    try:
        words, fds = _receive(connection)
        _close(fds)
        if words[0] != CHALLENGE or len(words) != 3:
            raise _refusal(words)
        if key is None:
            raise TokenRefusedError("no token is at hand")
        own = admission.nonce()
        transcript = admission.Transcript(name, os.getuid(), uid, bytes.fromhex(words[2].decode()), own)
        shown = transcript.proof(key, admission.DRIVER)
        connection.send(b"%b %b %b" % (PROOF, own.hex().encode(), shown.hex().encode()))
        words, fds = _receive(connection)
        answered = words[0] == MAGIC and len(words) == 3 and len(fds) > 0
        if answered and transcript.is_proven(key, admission.KEEPER, bytes.fromhex(words[2].decode())):
            return Admitted(fds, connection)
        _close(fds)
        raise _refusal(words)
    except ValueError:  # of what should be hexadecimal
        connection.close()
        raise PeerRefusedError("the answer was not this package's protocol") from None
    except BaseException:
        connection.close()
        raise


def _refusal(words: list[bytes]) -> OSError:
    """What an answer means that is not the one hoped for."""
    match words[0]:
        case b"":
            return ConnectionRefusedError(errno.ECONNREFUSED, "the session is ending")
        case word if word == REFUSED:
            return OwnUserOnlyError("the session admits its own user only")
        case word if word in (WRONG_TOKEN, MAGIC):
            return TokenRefusedError("the session there is not of the cluster that the token is of")
        case word if word != CHALLENGE and word.startswith((_MAGIC_OF_ANY, _CHALLENGE_OF_ANY)):
            return IncompatibleError(words[1].decode(errors="replace") if len(words) > 1 else "")
        case _:
            return PeerRefusedError("the answer was not this package's protocol")


def _connection(name: str, uid: int, timeout_s: float) -> socket.socket:
    """To the keeper with this name, which must be that user's."""
    # Python's own time-out makes the socket non-blocking, and then a full backlog is an error at once.
    limit = struct.pack("@ll", int(timeout_s), int(timeout_s % 1 * 1_000_000))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        connection.connect(address_of(name))
        owner = peer_uid(connection)
        if owner != uid:
            raise PeerRefusedError(f"{name} is held by user {owner}, not by user {uid}")
    except BlockingIOError:
        connection.close()
        raise _too_late() from None
    except BaseException:
        connection.close()
        raise
    return connection


def _receive(connection: socket.socket) -> tuple[list[bytes], list[int]]:
    """One message as words, [b""] at the end of the stream, and the descriptors that came with it."""
    item = array.array("i").itemsize
    room = socket.CMSG_LEN(FDS_MAX * item)
    try:
        message, ancillary, _, _ = connection.recvmsg(MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    except BlockingIOError:
        raise _too_late() from None
    except ConnectionResetError:  # ended with something of ours unread
        message, ancillary = b"", []
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % item])
    return message.split(b" "), list(fds)


def _too_late() -> TimeoutError:
    return TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


class OpenSocket(NamedTuple):
    """What the name of a session's socket says; anyone can take a name."""

    uid: int
    port: int  # of the control store
    node_port: int  # of a node that has joined; 0: it is where the control store is


def open_sockets(*, uid: int | None = None, port: int | None = None) -> list[OpenSocket]:
    """Those of all sessions on this machine, or of that user, or of that port, in order."""
    found = set()
    with open("/proc/net/unix", encoding="ascii", errors="replace") as table:
        for line in table:
            parts = parts_of(line.rsplit(None, 1)[-1])
            if parts and uid in (None, parts[0]) and port in (None, parts[1]):
                found.add(OpenSocket(*parts))
    return sorted(found)
