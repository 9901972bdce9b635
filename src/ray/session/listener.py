"""The keeper's side of `ray.session.handshake`: who connects is answered, and nobody is waited for.

A caller of the keeper's own user is answered at once, and its connection closed. Callers of other users, in a
session of a cluster, are remembered while they prove themselves: at most PENDING_MAX of them, each for
PENDING_MS, and a message of a fixed size each. Whoever has most of them loses the oldest when another comes.
"""

import errno
import os
import select
import socket

from ray.core.logs import STREAMS, of_job, open_log_for_reading
from ray.session import admission
from ray.session.handshake import (
    CHALLENGE,
    MAGIC,
    MESSAGE_BYTES,
    OUTPUT,
    PROOF,
    REFUSED,
    RELEASE_BYTES,
    WRONG_TOKEN,
    address_of,
    peer_uid,
    rights,
)
from ray.session.names import socket_name
from ray.session.say import say

BACKLOG = 64
ACCEPTED_AT_ONCE = 64  # then the keeper looks at its other business
PENDING_MAX = 64
PENDING_MS = 5_000
USERS_SAID_MAX = 32  # that were refused: what strangers do must not fill a log


class Caller:
    """A process of another user that has not finished."""

    def __init__(self, connection: socket.socket, uid: int, deadline_ms: int) -> None:
        self.connection = connection
        self.uid = uid
        self.deadline_ms = deadline_ms
        self.nonce = admission.nonce()
        self.is_admitted = False


class Listener:
    def __init__(
        self,
        poller: select.poll,
        arena_fd: int,
        release: str,
        *,
        spill_fd: int = -1,
        key: bytes = b"",
        logs: str = "",
    ) -> None:
        """`poller` is told of every descriptor to be looked at. Without a `key` no other user is admitted;
        `logs` is the folder with the output of the session's processes, "" if there is none."""
        self.uid = os.getuid()
        self._poller = poller
        self._fds = [fd for fd in (arena_fd, spill_fd) if fd >= 0]
        self._release = release.encode()[:RELEASE_BYTES]
        self._key = key
        self._logs = logs
        self._name = ""
        self._callers: dict[int, Caller] = {}
        self._said: set[int] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)

    def bind(self, port: int, node_port: int = 0) -> bool:
        """False when another process has the name."""
        self._name = socket_name(self.uid, port, node_port)
        try:
            self._socket.bind(address_of(self._name))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        self._socket.listen(BACKLOG)
        return True

    def open(self) -> None:
        """From now on callers are answered, in `serve`."""
        self._poller.register(self._socket, select.POLLIN)

    def close(self) -> None:
        for caller in list(self._callers.values()):
            self._drop(caller)
        self._socket.close()

    def serve(self, ready: set[int], now_ms: int) -> None:
        """Answers those whose descriptors are ready, and lets go of those that take too long."""
        for fd in ready & self._callers.keys():
            self._hear(self._callers[fd])
        if self._socket.fileno() in ready:
            self._accept(now_ms)
        for caller in [each for each in self._callers.values() if each.deadline_ms <= now_ms]:
            self._drop(caller)

    def deadline_ms(self) -> int | None:
        """When `serve` must be called again, whatever happens."""
        return min((caller.deadline_ms for caller in self._callers.values()), default=None)

    def _accept(self, now_ms: int) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError:
                continue  # it has left again
            try:
                connection.setblocking(False)
                if not self._greet(connection, now_ms):
                    connection.close()
            except OSError:
                connection.close()

    def _greet(self, connection: socket.socket, now_ms: int) -> bool:
        """Whether it is to be heard further."""
        uid = peer_uid(connection)
        if uid == self.uid:
            connection.sendmsg([MAGIC, b" ", self._release], rights(*self._fds))
            return False
        if not self._key:
            connection.send(REFUSED)
            return False
        caller = Caller(connection, uid, now_ms + PENDING_MS)
        connection.send(b"%b %b %b" % (CHALLENGE, self._release, caller.nonce.hex().encode()))
        self._make_room()
        self._callers[connection.fileno()] = caller
        self._poller.register(connection, select.POLLIN)
        return True

    def _make_room(self) -> None:
        if len(self._callers) < PENDING_MAX:
            return
        counts: dict[int, int] = {}
        for caller in self._callers.values():
            counts[caller.uid] = counts.get(caller.uid, 0) + 1
        greedy = max(counts, key=lambda uid: counts[uid])
        self._drop(next(caller for caller in self._callers.values() if caller.uid == greedy))

    def _hear(self, caller: Caller) -> None:
        try:
            words = caller.connection.recv(MESSAGE_BYTES).split(b" ")
            if not caller.is_admitted and self._admit(caller, words):
                return
            if caller.is_admitted and len(words) == 2 and words[0] == OUTPUT:
                self._give_output(caller, int(words[1]))
        except (OSError, ValueError):  # it has left, or said what is no number
            pass
        self._drop(caller)

    def _admit(self, caller: Caller, words: list[bytes]) -> bool:
        """May raise ValueError for what is not hexadecimal."""
        if len(words) != 3 or words[0] != PROOF:
            return False
        shown, theirs = bytes.fromhex(words[2].decode()), bytes.fromhex(words[1].decode())
        transcript = admission.Transcript(self._name, caller.uid, self.uid, caller.nonce, theirs)
        if len(theirs) != admission.NONCE_BYTES or not transcript.is_proven(
            self._key, admission.DRIVER, shown
        ):
            self._say_refused(caller.uid)
            caller.connection.send(WRONG_TOKEN)
            return False
        own = transcript.proof(self._key, admission.KEEPER).hex().encode()
        caller.connection.sendmsg([MAGIC, b" ", self._release, b" ", own], rights(*self._fds))
        caller.is_admitted = True
        return True

    def _give_output(self, caller: Caller, job: int) -> None:
        files: list[int] = []
        try:
            if self._logs:
                files += [open_log_for_reading(self._logs, of_job(job, fd)) for fd in STREAMS]
            caller.connection.sendmsg([OUTPUT], rights(*files))
        finally:
            for file in files:
                os.close(file)

    def _say_refused(self, uid: int) -> None:
        """Once for each user."""
        if uid in self._said or len(self._said) >= USERS_SAID_MAX:
            return
        self._said.add(uid)
        say(
            f"a driver of the user with id {uid} was refused: it does not know this cluster's token. "
            "`ray status` names the file that has it."
        )

    def _drop(self, caller: Caller) -> None:
        del self._callers[caller.connection.fileno()]
        self._poller.unregister(caller.connection)
        caller.connection.close()
