"""The one port of a node: accepts, shakes hands without waiting for anybody, and hands on by purpose.

An unknown peer costs little and not for long: its socket, at most 16 KiB of what it sent and a TLS session,
for at most five seconds, and at most 64 of them at a time. When there are more, the one that has waited
longest goes, those first that have sent nothing at all: so a crowd of idle connections does not keep a real
peer out.
"""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Callable, Mapping

from ray.wire.channel import WINDOW_BYTES, Channel, Handshake, Refusal
from ray.wire.connecting import prepare
from ray.wire.identity import Identity

MAX_UNFINISHED = 64
HANDSHAKE_S = 5.0
BACKLOG = 1024  # the system's own queue of connections that were not accepted yet
ACCEPTS_A_TURN = 32  # half the unfinished: whoever has sent something is looked at before it has to go
REST_S = 0.2  # when the process has no descriptors left
_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_UNCLAMPED = (1 << 30) - 1

OnRefused = Callable[[str, Refusal], None]


class Listener:
    """A node's port."""

    def __init__(
        self,
        identity: Identity,
        purposes: Mapping[str, Callable[[Channel], None]],
        on_refused: OnRefused = lambda address, refusal: None,
    ) -> None:
        """`purposes` maps names of `ray.wire.identity` to who takes such a channel over, non-blocking, at
        once.

        `on_refused` is told of each peer that was not let in, with its address.
        """
        self._identity = identity
        self._purposes = dict(purposes)
        self._context = identity.server_context(list(purposes))
        self._on_refused = on_refused
        self._unfinished: dict[Handshake, asyncio.TimerHandle] = {}  # oldest first
        self._socket: socket.socket | None = None
        self._rest: asyncio.TimerHandle | None = None
        self.refusals: Counter[Refusal] = Counter()
        self.address = ""

    async def start(self, host: str, port: int) -> str:
        """Listens there, from now on, and returns "host:port"; port 0 takes a free one.

        Raises OSError: EADDRINUSE when the port is taken.
        """
        loop = asyncio.get_running_loop()
        family, _, _, _, place = (await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]
        listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(place)
        except BaseException:
            listening.close()
            raise
        return self.take_over(listening)

    def take_over(self, listening: socket.socket) -> str:
        """The same with a socket that listens already; whoever else holds it keeps it open after `close`."""
        listening.setblocking(False)
        listening.listen(BACKLOG)  # again, for the length of its queue
        self._socket = listening
        bound, taken = listening.getsockname()[:2]
        self.address = f"[{bound}]:{taken}" if ":" in bound else f"{bound}:{taken}"
        asyncio.get_running_loop().add_reader(listening.fileno(), self._accept)
        return self.address

    def close(self) -> None:
        """Stops listening, and ends what has not finished its handshake; what was handed on goes on."""
        if self._socket is None:
            return
        listening, self._socket = self._socket, None
        asyncio.get_running_loop().remove_reader(listening.fileno())
        listening.close()
        if self._rest is not None:
            self._rest.cancel()
        for handshake, timer in self._unfinished.items():
            timer.cancel()
            handshake.cancel()
        self._unfinished.clear()

    @property
    def unfinished(self) -> int:
        """How many peers have not finished their handshake."""
        return len(self._unfinished)

    def _accept(self) -> None:
        assert self._socket is not None
        for _ in range(ACCEPTS_A_TURN):
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _NO_DESCRIPTORS:
                    continue  # that one has left again
                if not self._end_one():
                    self._take_rest()
                return
            self._shake_hands(connection)

    def _shake_hands(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        # What it sends beyond this, the system does not take either. (Set on the listening socket it would
        # bind the scale of the window for good, since that is told in the first packet.)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, WINDOW_BYTES)
        if len(self._unfinished) >= MAX_UNFINISHED:
            self._end_one()
        handshake = Handshake(connection, self._identity, self._context, True, self._done, self._failed)
        loop = asyncio.get_running_loop()
        self._unfinished[handshake] = loop.call_later(HANDSHAKE_S, handshake.fail, Refusal.TIMEOUT)

    def _end_one(self) -> bool:
        """Makes room; False when there is none to end."""
        silent = (handshake for handshake in self._unfinished if not handshake.received_bytes)
        oldest = next(silent, None) or next(iter(self._unfinished), None)
        if oldest is not None:
            oldest.fail(Refusal.CROWDED)
        return oldest is not None

    def _take_rest(self) -> None:
        """Whoever waits would have the loop call us again and again, for nothing."""
        assert self._socket is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        self._rest = loop.call_later(REST_S, self._go_on)

    def _go_on(self) -> None:
        assert self._socket is not None
        self._rest = None
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept)

    def _done(self, handshake: Handshake, channel: Channel) -> None:
        self._unfinished.pop(handshake).cancel()
        take_over = self._purposes.get(channel.protocol or "")
        if take_over is None:
            channel.close()
            self._refuse(handshake.address, Refusal.PURPOSE)
            return
        prepare(channel.connection)
        channel.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, _UNCLAMPED)
        take_over(channel)

    def _failed(self, handshake: Handshake, refusal: Refusal, error: Exception | None) -> None:
        timer = self._unfinished.pop(handshake, None)
        if timer is not None:
            timer.cancel()
        self._refuse(handshake.address, refusal)

    def _refuse(self, address: str, refusal: Refusal) -> None:
        self.refusals[refusal] += 1
        self._on_refused(address, refusal)
