"""Large values: bytes of an object go from the buffer they lie in at one node into a buffer at another.

A request is an object's id, an offset and a length; the answer a status, the value's whole size, a length,
and then as many bytes as that. A connection serves one request at a time and any number one after the other;
several at once take several connections. What goes over it is in `ray.wire.sealed`. Everything here waits, so
it runs in threads: reading a socket straight into a buffer is what an event loop's streams can't do without
copies.
"""

import asyncio
import contextlib
import enum
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from ray.errors import RayConnectionError
from ray.wire import sealed
from ray.wire.channel import Channel, shut
from ray.wire.connecting import CONNECT_S, describe, open_channel_waiting
from ray.wire.identity import BULK, Identity
from ray.wire.sealed import Progress, Sealed

ID_BYTES = 20
STALL_S = 10.0  # a transfer in which nothing moves for so long is broken
IDLE_S = 60.0  # a server keeps a connection without requests; a client gives it up in half of that
MAX_CONNECTIONS = 64  # a server's threads
MAX_IDLE = 4  # connections that a client keeps for one address
THREADS = 8  # transfers at once in one client
# After so many a connection ends, and its keys with it. The chance of telling what was sent from noise stays
# below 2^-62: (blocks and frames)^2 / 2^129, for 2^33 blocks of 16 bytes. TLS 1.3 allows three times as many
# under one key (RFC 8446, 5.5).
MAX_CONNECTION_BYTES = 128 << 30

_REQUEST = struct.Struct(f">{ID_BYTES}sQQ")
_ANSWER = struct.Struct(">BQQ")


class Status(enum.IntEnum):
    """How an answer begins."""

    HERE = 0
    ABSENT = 1
    OUTSIDE = 2
    FAILED = 3


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
        self._serving: dict[socket.socket, threading.Thread] = {}
        self._closed = False

    def accept(self, channel: Channel) -> None:
        """Takes the channel over; does not block."""
        channel.connection.settimeout(CONNECT_S)
        with self._lock:
            served = not self._closed and len(self._serving) < MAX_CONNECTIONS and self._start(channel)
        if not served:
            # There is room for it in an empty socket.
            with contextlib.suppress(OSError):
                channel.write(sealed.BUSY)
            channel.close()

    def _start(self, channel: Channel) -> bool:
        thread = threading.Thread(target=self._serve, args=(channel,), name="ray-bulk-server", daemon=True)
        self._serving[channel.connection] = thread
        try:
            thread.start()
        except RuntimeError:  # the system gives no more
            del self._serving[channel.connection]
            return False
        return True

    def close(self) -> None:
        """Breaks all transfers, and waits until no thread reads a value any more."""
        with self._lock:
            self._closed = True
            serving = dict(self._serving)
        for connection in serving:
            shut(connection)
        for thread in serving.values():
            thread.join()

    def _serve(self, channel: Channel) -> None:
        try:
            self._serve_requests(sealed.take(channel))
        except OSError:
            pass  # the client knows, or is gone
        finally:
            with self._lock:
                del self._serving[channel.connection]
            channel.close()

    def _serve_requests(self, connection: Sealed) -> None:
        request = memoryview(bytearray(_REQUEST.size))
        while connection.sent_bytes < MAX_CONNECTION_BYTES:
            connection.settimeout(IDLE_S)
            if connection.read_into(request) < len(request):
                break
            connection.settimeout(STALL_S)
            self._answer(connection, *_REQUEST.unpack(request))

    def _answer(self, connection: Sealed, object_id: bytes, offset: int, length: int) -> None:
        with contextlib.ExitStack() as held:
            try:
                value = self._resolve(object_id)
                if value is None:
                    connection.write(_ANSWER.pack(Status.ABSENT, 0, 0))
                    return
                whole = held.enter_context(memoryview(held.enter_context(value)))
                data = held.enter_context(whole.cast("B"))
            except Exception as error:
                self._on_error(error)
                connection.write(_ANSWER.pack(Status.FAILED, 0, 0))
                return
            if offset + length > len(data):
                connection.write(_ANSWER.pack(Status.OUTSIDE, len(data), 0))
                return
            connection.write(_ANSWER.pack(Status.HERE, len(data), length))
            with data[offset : offset + length] as part:
                connection.write(part)


class _Transfer:
    """One fetch under way, which another thread may stop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self.stopped = False

    def uses(self, connection: socket.socket | None) -> None:
        """Notes the connection that `stop` is to break; none, when it is no longer this transfer's."""
        with self._lock:
            self._connection = connection
            if connection is not None and self.stopped:
                shut(connection)

    def stop(self) -> None:
        with self._lock:
            self.stopped = True
            if self._connection is not None:
                shut(self._connection)


class BulkClient:
    """Fetches values from other nodes, with a pool of threads and of connections."""

    def __init__(self, identity: Identity, threads: int = THREADS, source: str = "") -> None:
        """`threads` is how many transfers are under way at once; others wait. `source` is the address of this
        machine to connect from; "": any."""
        self._identity = identity
        self._source = source
        self._executor = ThreadPoolExecutor(threads, "ray-bulk-client")
        self._lock = threading.Lock()
        self._idle: defaultdict[str, list[tuple[float, Sealed]]] = defaultdict(list)  # oldest first
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
        for _, connection in idle:
            connection.close()

    def close(self) -> None:
        """Stops all transfers, waits for their threads, and closes the connections.

        What is under way, or still queued, raises TransferBrokenError. Blocks, for seconds when a connection
        is being made.
        """
        with self._lock:
            self._closed = True
            under_way = list(self._transfers)
            idle = [connection for pool in self._idle.values() for _, connection in pool]
            self._idle.clear()
        for transfer in under_way:
            transfer.stop()
        for connection in idle:
            connection.close()
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
            connection = self._idle_connection(address)
            is_new = connection is None
            if connection is None:
                connection = self._connect(transfer, address)
            else:
                transfer.uses(connection.socket)
            try:
                whole = _ask(connection, object_id, offset, into)
            except ValueAbsentError:
                transfer.uses(None)
                self._keep(address, connection)
                raise
            except _NothingCame as error:
                transfer.uses(None)
                connection.close()
                # The server has given up what was idle here, or was started anew: that says nothing about it
                # now.
                if is_new or transfer.stopped:
                    raise TransferBrokenError(address, str(error)) from None
                continue
            except BaseException:
                transfer.uses(None)
                connection.close()
                raise
            transfer.uses(None)
            self._keep(address, connection)
            return whole

    def _connect(self, transfer: _Transfer, address: str) -> Sealed:
        """A new connection, which `transfer` uses from its handshake on."""
        try:
            channel = open_channel_waiting(address, self._identity, BULK, CONNECT_S, self._source)
        except RayConnectionError as error:
            raise TransferBrokenError(address, str(error)) from None
        transfer.uses(channel.connection)
        try:
            connection = sealed.offer(channel)
        except BaseException as error:
            transfer.uses(None)
            channel.close()
            if isinstance(error, OSError):
                raise TransferBrokenError(address, describe(error)) from None
            raise
        connection.settimeout(STALL_S)
        return connection

    def _idle_connection(self, address: str) -> Sealed | None:
        with self._lock:
            pool = self._idle[address]
            fresh_from = time.monotonic() - IDLE_S / 2
            old = [connection for since, connection in pool if since < fresh_from]
            del pool[: len(old)]
            found = pool.pop()[1] if pool else None
        for connection in old:
            connection.close()
        return found

    def _keep(self, address: str, connection: Sealed) -> None:
        with self._lock:
            pool = self._idle[address]
            keeps = not self._closed and len(pool) < MAX_IDLE
            if keeps:
                pool.append((time.monotonic(), connection))
        if not keeps:
            connection.close()


class _NothingCame(Exception):
    """Not one byte of an answer."""


def _ask(connection: Sealed, object_id: bytes, offset: int, into: memoryview) -> int:
    address = connection.address
    answer = memoryview(bytearray(_ANSWER.size))
    try:
        connection.write(_REQUEST.pack(object_id, offset, len(into)))
        came = connection.read_into(answer)
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
    if status != Status.HERE or length != len(into):
        raise TransferBrokenError(address, "its answer makes no sense")
    progress = Progress()
    try:
        connection.read_into(into, progress)
    except OSError as error:
        raise TransferBrokenError(address, describe(error), progress.received) from None
    if progress.received < len(into):
        raise TransferBrokenError(address, "the connection was closed", progress.received)
    return int(whole)
