"""The head's table of nodes, kept in the control store: changes are written, the next head reads it."""

import asyncio
from collections.abc import Callable

from ray.control_store.hold import TakenError
from ray.control_store.link import UNREACHABLE
from ray.control_store.nodes import NodeEntry, NodeTable
from ray.node.cluster.head import Entries
from ray.wire.messages import MAX_DEAD

LOOK_S = 0.5  # between two looks whether the control store is there
RETRY_S = 0.1


class StoredTable:
    """One server's copy, written as long as it is there. Used on the event loop's thread."""

    def __init__(
        self,
        table: NodeTable,
        on_store: Callable[[bool, str], None],
        on_read: Callable[[Entries], None],
    ) -> None:
        """`on_store` is told when the control store goes away, and why, or is back; `on_read` once what it
        held."""
        self._table = table
        self._on_store = on_store
        self._on_read = on_read
        self._entries: dict[bytes, NodeEntry] = {}
        self._unwritten: dict[bytes, list[Callable[[], None]]] = {}
        self._changed = asyncio.Event()
        self.was_read = asyncio.Event()

    def write(self, node: bytes, entry: NodeEntry, done: Callable[[], None] | None = None) -> None:
        """Replaces the node's entry; `done` is called when the control store has it."""
        self._entries.pop(node, None)
        self._entries[node] = entry
        self._unwritten.setdefault(node, [])
        if done is not None:
            self._unwritten[node].append(done)
        self._changed.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        is_up = True
        try:
            while True:
                try:
                    await self._look()
                except UNREACHABLE as error:
                    if is_up:
                        is_up = False
                        taken = isinstance(error, TakenError)
                        self._on_store(False, str(error) if taken else "does not answer")
                    await asyncio.sleep(RETRY_S)
                    continue
                if not is_up:
                    is_up = True
                    self._on_store(True, "")
                if not self._unwritten:
                    self._changed.clear()
                    await _set_within(self._changed, LOOK_S)
        finally:
            await self._table.close()

    async def _look(self) -> None:
        if not self.was_read.is_set():
            found = await self._table.read()
            self._entries = {**found, **self._entries}
            self.was_read.set()
            self._on_read(found)
        elif not await self._table.is_there():  # the server has begun anew
            for node in self._entries:
                self._unwritten.setdefault(node, [])
        if self._unwritten:
            await self._write()

    async def _write(self) -> None:
        under_way, self._unwritten = self._unwritten, {}
        dead = [node for node, entry in self._entries.items() if entry.dead]
        old = dead[: max(0, len(dead) - MAX_DEAD)]
        changes: dict[bytes, NodeEntry | None] = {node: self._entries[node] for node in under_way}
        changes.update(dict.fromkeys(old))
        try:
            await self._table.write(changes)
        except UNREACHABLE:
            for node, waiting in under_way.items():
                self._unwritten[node] = [*waiting, *self._unwritten.get(node, ())]
            raise
        for node in old:
            del self._entries[node]
        for waiting in under_way.values():
            for done in waiting:
                done()


async def _set_within(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
