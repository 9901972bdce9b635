"""Large values: bytes of an object go from the buffer they lie in at one node into a buffer at another.

A request is an object's id, an offset and a length; the answer a status, the value's whole size, a length,
and then as many bytes as that. A connection serves one request at a time and any number one after the other;
several at once take several connections. Everything here waits, so it runs in threads: reading a socket
straight into a buffer is what an event loop's streams can't do without copies.
"""

import asyncio
import contextlib
import enum
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from ray.errors import RayConnectionError
from ray.wire.channel import Channel, Progress
from ray.wire.connecting import CONNECT_S, describe, open_channel_waiting
from ray.wire.identity import BULK, Identity

ID_BYTES = 20
STALL_S = 10.0  # a transfer in which nothing moves for so long is broken
IDLE_S = 60.0  # a server keeps a connection without requests; a client gives it up in half of that
MAX_CONNECTIONS = 64  # a server's threads
MAX_IDLE = 4  # connections that a client keeps for one address
THREADS = 8  # transfers at once in one client
# One key may encrypt 2^24.5 full records (RFC 8446, 5.5), which is 380 GiB; a new connection has new ones.
MAX_CONNECTION_BYTES = 128 << 30

_REQUEST = struct.Struct(f">{ID_BYTES}sQQ")
_ANSWER = struct.Struct(">BQQ")


class Status(enum.IntEnum):
    """How an answer begins."""

    HERE = 0
    ABSENT = 1
    OUTSIDE = 2
    FAILED = 3
    BUSY = 4


class TransferError(OSError):
    """A transfer did not come to its end. `received` bytes came, and stand at the buffer's beginning."""

    def __init__(self, address: str, reason: str, received: int = 0) -> None:
        super().__init__(f"no transfer from {address}: {reason} (after {received:,} bytes)")
        self.address = address
        self.reason = reason
        self.received = received


class ValueAbsentError(TransferError):
    """That node does not have the value (any more). Nothing is wrong with the connection."""


class TransferBrokenError(TransferError):
    """The node can't be reached, or the connection broke, or the node could not read the value."""


# An object's id to its bytes, readable as long as the context is entered; None when it is not here.
Resolve = Callable[[bytes], "AbstractContextManager[memoryview] | None"]


class BulkServer:
    """Serves values over accepted connections, for a Listener's purpose `BULK`."""

    def __init__(self, resolve: Resolve, on_error: Callable[[Exception], None] = lambda error: None) -> None:
        """`resolve` is called in the connections' threads. What it raises goes to `on_error`, there too, and
        to the client as a failure without its text."""
        self._resolve = resolve
        self._on_error = on_error
        self._lock = threading.Lock()
        self._serving: dict[Channel, threading.Thread] = {}
        self._closed = False

    def accept(self, channel: Channel) -> None:
        """Takes the channel over; does not block."""
        channel.connection.settimeout(IDLE_S)
        with self._lock:
            served = not self._closed and len(self._serving) < MAX_CONNECTIONS and self._start(channel)
        if not served:
            # The answer to whatever will be asked; there is room for it in an empty socket.
            with contextlib.suppress(OSError):
                channel.write(_ANSWER.pack(Status.BUSY, 0, 0))
            channel.close()

    def _start(self, channel: Channel) -> bool:
        thread = threading.Thread(target=self._serve, args=(channel,), name="ray-bulk-server", daemon=True)
        self._serving[channel] = thread
        try:
            thread.start()
        except RuntimeError:  # the system gives no more
            del self._serving[channel]
            return False
        return True

    def close(self) -> None:
        """Breaks all transfers, and waits until no thread reads a value any more."""
        with self._lock:
            self._closed = True
            serving = dict(self._serving)
        for channel in serving:
            channel.shut()
        for thread in serving.values():
            thread.join()

    def _serve(self, channel: Channel) -> None:
        request = memoryview(bytearray(_REQUEST.size))
        sent = 0
        try:
            while sent < MAX_CONNECTION_BYTES and channel.read_into(request) == len(request):
                channel.connection.settimeout(STALL_S)
                sent += self._answer(channel, *_REQUEST.unpack(request))
                channel.connection.settimeout(IDLE_S)
        except OSError:
            pass  # the client knows, or is gone
        finally:
            with self._lock:
                del self._serving[channel]
            channel.close()

    def _answer(self, channel: Channel, object_id: bytes, offset: int, length: int) -> int:
        """Answers one request, and returns how many bytes of the value went."""
        with contextlib.ExitStack() as held:
            try:
                value = self._resolve(object_id)
                if value is None:
                    channel.write(_ANSWER.pack(Status.ABSENT, 0, 0))
                    return 0
                whole = held.enter_context(memoryview(held.enter_context(value)))
                data = held.enter_context(whole.cast("B"))
            except Exception as error:
                self._on_error(error)
                channel.write(_ANSWER.pack(Status.FAILED, 0, 0))
                return 0
            if offset + length > len(data):
                channel.write(_ANSWER.pack(Status.OUTSIDE, len(data), 0))
                return 0
            channel.write(_ANSWER.pack(Status.HERE, len(data), length))
            with data[offset : offset + length] as part:
                channel.write(part)
        return length


class _Transfer:
    """One fetch under way, which another thread may stop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self.stopped = False

    def uses(self, channel: Channel | None) -> None:
        """Notes the connection that `stop` is to break; none, when it is no longer this transfer's."""
        with self._lock:
            self._channel = channel
            if channel is not None and self.stopped:
                channel.shut()

    def stop(self) -> None:
        with self._lock:
            self.stopped = True
            if self._channel is not None:
                self._channel.shut()


class BulkClient:
    """Fetches values from other nodes, with a pool of threads and of connections."""

    def __init__(self, identity: Identity, threads: int = THREADS, source: str = "") -> None:
        """`threads` is how many transfers are under way at once; others wait. `source` is the address of this
        machine to connect from; "": any."""
        self._identity = identity
        self._source = source
        self._executor = ThreadPoolExecutor(threads, "ray-bulk-client")
        self._lock = threading.Lock()
        self._idle: defaultdict[str, list[tuple[float, Channel]]] = defaultdict(list)  # oldest first
        self._transfers: set[_Transfer] = set()
        self._closed = False

    async def fetch(self, address: str, object_id: bytes, offset: int, into: memoryview) -> int:
        """Fills `into` with the bytes of a value from `offset` on, and returns the value's whole size.

        When it returns or raises, also on cancellation, nobody writes to `into` any more. Raises
        ValueAbsentError, and TransferBrokenError with how many bytes came: another node can be asked for the
        rest.
        """
        transfer = _Transfer()
        loop = asyncio.get_running_loop()
        under_way = loop.run_in_executor(
            self._executor, self._run, transfer, address, object_id, offset, into
        )
        try:
            return await asyncio.shield(under_way)
        except asyncio.CancelledError:
            transfer.stop()
            while not under_way.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([under_way])
            under_way.exception()
            raise
        finally:
            # An error in it has this frame in its traceback: with that cycle the caller's buffer would stay.
            del under_way

    def fetch_waiting(self, address: str, object_id: bytes, offset: int, into: memoryview) -> int:
        """As `fetch`, in the calling thread, which blocks."""
        return self._run(_Transfer(), address, object_id, offset, into)

    def forget(self, address: str) -> None:
        """Closes the idle connections to a node that is gone."""
        with self._lock:
            idle = self._idle.pop(address, [])
        for _, channel in idle:
            channel.close()

    def close(self) -> None:
        """Stops all transfers, waits for their threads, and closes the connections.

        What is under way, or still queued, raises TransferBrokenError. Blocks, for seconds when a connection
        is being made.
        """
        with self._lock:
            self._closed = True
            under_way = list(self._transfers)
            idle = [channel for pool in self._idle.values() for _, channel in pool]
            self._idle.clear()
        for transfer in under_way:
            transfer.stop()
        for channel in idle:
            channel.close()
        self._executor.shutdown()

    def _run(self, transfer: _Transfer, address: str, object_id: bytes, offset: int, into: memoryview) -> int:
        if len(object_id) != ID_BYTES:
            raise ValueError(f"an object's id has {ID_BYTES} bytes, not {len(object_id)}")
        with self._lock:
            if self._closed or transfer.stopped:
                raise TransferBrokenError(address, "stopped")
            self._transfers.add(transfer)
        try:
            with into.cast("B") as target:
                return self._fetch(transfer, address, object_id, offset, target)
        finally:
            with self._lock:
                self._transfers.discard(transfer)

    def _fetch(
        self, transfer: _Transfer, address: str, object_id: bytes, offset: int, into: memoryview
    ) -> int:
        while True:
            channel = self._idle_channel(address)
            is_new = channel is None
            if channel is None:
                try:
                    channel = open_channel_waiting(address, self._identity, BULK, CONNECT_S, self._source)
                except RayConnectionError as error:
                    raise TransferBrokenError(address, str(error)) from None
                channel.connection.settimeout(STALL_S)
            transfer.uses(channel)
            try:
                whole = _ask(channel, object_id, offset, into)
            except ValueAbsentError:
                transfer.uses(None)
                self._keep(address, channel)
                raise
            except _NothingCame as error:
                transfer.uses(None)
                channel.close()
                # The server has given up what was idle here, or was started anew: that says nothing about it
                # now.
                if is_new or transfer.stopped:
                    raise TransferBrokenError(address, str(error)) from None
                continue
            except BaseException:
                transfer.uses(None)
                channel.close()
                raise
            transfer.uses(None)
            self._keep(address, channel)
            return whole

    def _idle_channel(self, address: str) -> Channel | None:
        with self._lock:
            pool = self._idle[address]
            fresh_from = time.monotonic() - IDLE_S / 2
            old = [channel for since, channel in pool if since < fresh_from]
            del pool[: len(old)]
            found = pool.pop()[1] if pool else None
        for channel in old:
            channel.close()
        return found

    def _keep(self, address: str, channel: Channel) -> None:
        with self._lock:
            pool = self._idle[address]
            keeps = not self._closed and len(pool) < MAX_IDLE
            if keeps:
                pool.append((time.monotonic(), channel))
        if not keeps:
            channel.close()


class _NothingCame(Exception):
    """Not one byte of an answer."""


def _ask(channel: Channel, object_id: bytes, offset: int, into: memoryview) -> int:
    address = channel.address
    answer = memoryview(bytearray(_ANSWER.size))
    try:
        channel.write(_REQUEST.pack(object_id, offset, len(into)))
        came = channel.read_into(answer)
    except OSError as error:
        raise _NothingCame(describe(error)) from None
    if came < len(answer):
        raise _NothingCame("the connection was closed")
    status, whole, length = _ANSWER.unpack(answer)
    if status == Status.ABSENT:
        raise ValueAbsentError(address, "it does not have the value")
    if status == Status.OUTSIDE:
        raise TransferBrokenError(address, f"the value has {whole:,} bytes, fewer than were asked for")
    if status == Status.FAILED:
        raise TransferBrokenError(address, "it could not read the value; its log says why")
    if status == Status.BUSY:
        raise TransferBrokenError(address, f"it already serves {MAX_CONNECTIONS} connections")
    if status != Status.HERE or length != len(into):
        raise TransferBrokenError(address, "its answer makes no sense")
    progress = Progress()
    try:
        channel.read_into(into, progress)
    except OSError as error:
        raise TransferBrokenError(address, describe(error), progress.received) from None
    if progress.received < len(into):
        raise TransferBrokenError(address, "the connection was closed", progress.received)
    return int(whole)
