"""A link: the one connection of two nodes for control messages, on an event loop.

Both sides say `Hello` first, and nothing else counts before: nodes of different protocols part here. From
then on messages go both ways in batches, in order, until the link ends; what was queued or under way at that
moment may be lost, and nobody is told which. Everything is called from the loop's thread, and nothing waits.
"""

import asyncio
import enum
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ray.errors import IncompatiblePeerError, PeerUnreachableError
from ray.wire.channel import CHUNK_BYTES, RECORD_BYTES, Channel
from ray.wire.frames import DamagedFrameError, FrameReader, FrameWriter
from ray.wire.messages import MAX_TEXT, Bye, Hello, Message, Packed

READ_BYTES = 64 << 10  # in one turn of the loop, so that no link holds up the others
MAX_BACKLOG_BYTES = 64 << 20
LINGER_S = 1.0  # for the last messages of a link that is closed


class EndKind(enum.Enum):
    """Who or what ended a link."""

    OURS = "closed by this side"
    THEIRS = "closed by the other side"
    BROKEN = "the connection broke"
    DAMAGED = "the other side sent what is no message"
    OVERFLOW = "the other side does not read"


class End(NamedTuple):
    """Why a link ended; `text` is for people."""

    kind: EndKind
    text: str

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.text}" if self.text else self.kind.value


OnMessages = Callable[["Link", list[Message]], None]
OnClosed = Callable[["Link", End], None]


class Link:
    """One side of a link. It comes from `ray.wire.connecting.connect`, or from a `LinkHost`.

    `peer` is the other side's Hello. `last_received` is the monotonic clock's time when bytes came last.
    """

    peer: Hello

    def __init__(self, channel: Channel, hello: Hello, greeted: asyncio.Future[None]) -> None:
        """For `greet`, below, which also waits for `greeted`."""
        self.address = channel.address
        self._channel = channel
        self._connection = channel.connection
        self._fd = self._connection.fileno()
        self._loop = greeted.get_loop()
        self.last_received = time.monotonic()
        self._hello = hello
        self._greeted = greeted
        self._on_messages: OnMessages | None = None
        self._on_closed: OnClosed | None = None
        self._reader = FrameReader()
        self._writer = FrameWriter()
        self._frames: deque[memoryview] = deque()  # not encrypted yet
        self._frames_bytes = 0
        self._sealed = memoryview(b"")  # encrypted, not sent yet
        self._flush_planned = False
        self._waits_for_room = False
        self._leaving: str | None = None  # why this side closes, from then on
        self._linger: asyncio.TimerHandle | None = None
        self.end: End | None = None
        # Comes back to a flush that something was queued for: when the loop has its next turn, or sooner.
        self.plan: Callable[[Callable[[], None]], object] = self._loop.call_soon
        self._writer.add(hello)
        self._loop.add_reader(self._fd, self._readable)
        self._flush()
        # The hello may have come right behind the handshake, and be in our memory already.
        self._loop.call_soon(self._decrypt)

    def begin(self, on_messages: OnMessages, on_closed: OnClosed) -> None:
        """From now on messages are handed over, in lists of at least one, and the end, once.

        To be called once, when the link has been handed out; what comes before is kept for it.
        """
        self._on_messages, self._on_closed = on_messages, on_closed
        if self.end is not None:
            self._loop.call_soon(on_closed, self, self.end)
            return
        self._loop.add_reader(self._fd, self._readable)
        self._loop.call_soon(self._deliver)

    def send(self, message: Message | Packed) -> None:
        """Queues a message. All that is queued in one turn of the loop, or until `plan` sees to it, goes
        together.

        On a link that has ended, or is being closed, it does nothing. Raises MessageTooLargeError, and
        TypeError for a field that has no form. A backlog of more than 64 MiB ends the link.
        """
        if self.end is not None or self._leaving is not None:
            return
        self._writer.add(message)
        if not self._flush_planned:
            self._flush_planned = True
            self.plan(self._flush)
        # While the socket waits for room nothing moves; what is queued in one turn may be large.
        if self._waits_for_room and self.backlog_bytes > MAX_BACKLOG_BYTES:
            self._end(EndKind.OVERFLOW, f"{self.backlog_bytes:,} bytes wait for it")

    @property
    def backlog_bytes(self) -> int:
        """Bytes that are queued and that the system has not taken yet."""
        return self._writer.held_bytes + self._frames_bytes + len(self._sealed)

    def close(self, reason: str) -> None:
        """Sends what is queued, and the reason, within a second; then the link ends."""
        if self.end is not None or self._leaving is not None:
            return
        self._writer.add(Bye(reason[:MAX_TEXT]))
        self._leaving = reason
        self._linger = self._loop.call_later(LINGER_S, self.abort, reason)
        self._flush()

    def abort(self, reason: str) -> None:
        """Ends the link at once."""
        self._end(EndKind.OURS, reason)

    def __repr__(self) -> str:
        return f"<Link {self.address}{f', {self.end}' if self.end else ''}>"

    # --- out ---

    def _flush(self) -> None:
        self._flush_planned = False
        if self.end is not None:
            return
        for frame in self._writer.take():
            self._frames.append(memoryview(frame))
            self._frames_bytes += len(frame)
        if not self._waits_for_room:
            self._write()

    def _write(self) -> None:
        try:
            while self._sealed or self._frames or self._channel.outgoing.pending:
                if not self._sealed:
                    self._seal()
                self._sealed = self._sealed[self._connection.send(self._sealed) :]
        except (BlockingIOError, InterruptedError):
            if not self._waits_for_room:
                self._waits_for_room = True
                self._loop.add_writer(self._fd, self._write)
            return
        except OSError as error:
            self._broken(error)
            return
        if self._waits_for_room:
            self._waits_for_room = False
            self._loop.remove_writer(self._fd)
        if self._leaving is not None:
            self._end(EndKind.OURS, self._leaving)

    def _seal(self) -> None:
        """The next piece is encrypted when the last one is gone."""
        if self._frames:
            piece = self._frames.popleft()
            if len(piece) > CHUNK_BYTES:
                self._frames.appendleft(piece[CHUNK_BYTES:])
                piece = piece[:CHUNK_BYTES]
            self._frames_bytes -= len(piece)
            self._channel.encrypt(piece)
        self._sealed = memoryview(self._channel.outgoing.read())

    # --- in ---

    def _readable(self) -> None:
        try:
            data = self._connection.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._broken(error)
            return
        if not data:
            self._end(EndKind.BROKEN, "the other side's process or machine has ended")
            return
        self.last_received = time.monotonic()
        self._channel.incoming.write(data)
        self._decrypt()

    def _decrypt(self) -> None:
        if self.end is not None:
            return
        tls, incoming = self._channel.tls, self._channel.incoming
        closed = False
        try:
            # Nothing left: to be told so by TLS costs as much as to decrypt a message.
            while incoming.pending or tls.pending():
                data = tls.read(RECORD_BYTES)
                if not data:
                    closed = True
                    break
                self._reader.feed(data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._end(EndKind.BROKEN, f"TLS: {error.reason or error}")
            return
        if self._greeted.done():
            self._deliver()
        else:
            self._read_hello()
        if closed:
            self._end(EndKind.BROKEN, "the other side has closed the connection")

    def _read_hello(self) -> None:
        """What comes behind it stays in the reader until `begin`, and in the system until then."""
        try:
            opening = self._reader.opening()
            if opening is None:
                return
            ours = self._hello
            if opening.protocol != ours.protocol:
                error = IncompatiblePeerError(
                    self.address, ours.release, ours.protocol, opening.release, opening.protocol
                )
                self._end(EndKind.OURS, "the two speak different protocols", error)
                return
            first = self._reader.next_frame()
        except DamagedFrameError as damage:
            self._end(EndKind.DAMAGED, str(damage))
            return
        if first is None or len(first) != 1 or not isinstance(first[0], Hello):
            self._end(EndKind.DAMAGED, "its first message is not a Hello")
            return
        self.peer = first[0]
        self._loop.remove_reader(self._fd)
        if not self._greeted.done():
            self._greeted.set_result(None)

    def _deliver(self) -> None:
        if self._on_messages is None or self.end is not None:
            return
        received: list[Message] = []
        last: Bye | None = None
        damage = ""
        try:
            while last is None and (messages := self._reader.next_frame()) is not None:
                if messages and isinstance(messages[-1], Bye):
                    last = messages[-1]
                    del messages[-1]
                received += messages
        except DamagedFrameError as error:
            damage = str(error)
        if received and self._leaving is None:
            self._on_messages(self, received)
        if last is not None:
            self._end(EndKind.THEIRS, last.reason)
        elif damage:
            self._end(EndKind.DAMAGED, damage)

    # --- end ---

    def _broken(self, error: OSError) -> None:
        self._end(EndKind.BROKEN, error.strerror or str(error))

    def _end(self, kind: EndKind, text: str, error: Exception | None = None) -> None:
        if self.end is not None:
            return
        self.end = End(kind, text)
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        if self._linger is not None:
            self._linger.cancel()
        self._channel.close()
        self._frames.clear()
        self._frames_bytes = 0
        self._sealed = memoryview(b"")
        self._writer = FrameWriter()
        self._reader = FrameReader()
        if not self._greeted.done():
            self._greeted.set_exception(error or PeerUnreachableError(self.address, str(self.end)))
        elif self._on_closed is not None:
            self._loop.call_soon(self._on_closed, self, self.end)


async def greet(channel: Channel, hello: Hello, timeout_s: float) -> Link:
    """Makes a link of a channel, or closes it: both sides say who they are.

    Raises IncompatiblePeerError when the other side speaks another protocol, PeerUnreachableError when it
    says nothing in time or something else.
    """
    greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    link = Link(channel, hello, greeted)
    try:
        async with asyncio.timeout(timeout_s):
            await greeted
    except TimeoutError:
        link.abort("no Hello came")
        raise PeerUnreachableError(link.address, f"it said nothing in {timeout_s:g} s") from None
    except BaseException:
        link.abort("no Hello came")
        raise
    return link


class LinkHost:
    """Makes links of accepted connections, for a Listener's purpose `LINK`."""

    def __init__(
        self,
        hello: Callable[[], Hello],
        on_link: Callable[[Link], None],
        on_refused: Callable[[str, Exception], None] = lambda address, error: None,
        timeout_s: float = 5.0,
    ) -> None:
        """`on_link` is to call the link's `begin`; `on_refused` hears of peers that said something else."""
        self._hello = hello
        self._on_link = on_link
        self._on_refused = on_refused
        self._timeout_s = timeout_s
        self._greeting: dict[asyncio.Task[None], Channel] = {}

    def accept(self, channel: Channel) -> None:
        """Takes the channel over."""
        task = asyncio.get_running_loop().create_task(self._greet(channel))
        self._greeting[task] = channel
        task.add_done_callback(self._greeting.pop)

    async def close(self) -> None:
        """Ends what has not become a link yet."""
        greeting = dict(self._greeting)
        for task in greeting:
            task.cancel()
        await asyncio.gather(*greeting, return_exceptions=True)
        for channel in greeting.values():
            channel.close()  # of a task that was cancelled before it began

    async def _greet(self, channel: Channel) -> None:
        try:
            link = await greet(channel, self._hello(), self._timeout_s)
        except (IncompatiblePeerError, PeerUnreachableError) as error:
            self._on_refused(channel.address, error)
            return
        self._on_link(link)
