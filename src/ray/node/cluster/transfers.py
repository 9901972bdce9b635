"""Large values on their way: from other nodes' stores straight into this one's, and the other way round.

What comes from where, and when, is decided by `ray.policy.cluster.transfers`; here it is done.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ray import _kernel
from ray.policy.cluster import transfers as policy
from ray.policy.cluster.transfers import Abandon, Action, Admit, AskSources, Fetch, Finish, Rank
from ray.session.say import say
from ray.wire.bulk import BulkClient, TransferError
from ray.wire.identity import Identity
from ray.wire.messages import Result

STORE_PART = 2  # what is on its way takes one part in so many of the store
FULL_WAIT_MS = 100  # for memory to be freed, when values in use fill the store
KEPT_S = 15.0  # what has come of a value that has no source now, until its owner names another

OnPulled = Callable[[Result, _kernel.ObjectID, list[_kernel.ObjectID], _kernel.Block | None], None]


@dataclass(slots=True, eq=False)
class _Coming:
    """One value on its way. `place` is its memory, from the moment it is admitted on."""

    named_by: bytes  # the node that has named the sources: all of them have the same bytes
    value: Result
    oid: _kernel.ObjectID
    nested: list[_kernel.ObjectID]
    rank: Rank = Rank.TASK
    place: asyncio.Task[_kernel.Block] | None = None
    forgotten: asyncio.TimerHandle | None = None


class Pulls:
    """Used on the event loop's thread; bytes move in threads."""

    def __init__(
        self,
        arena: _kernel.Arena,
        identity: Identity,
        address_of: Callable[[bytes], str | None],
        on_pulled: OnPulled,
        source: str = "",
    ) -> None:
        """`source` is the address of this machine to connect from; "": any."""
        self.arena = arena
        self.client = BulkClient(identity, source=source)
        self.address_of = address_of
        self.on_pulled = on_pulled
        self.policy = policy.Pulls(arena.stats()["heap_capacity_bytes"] // STORE_PART)
        self._coming: dict[bytes, _Coming] = {}
        self._tasks: dict[asyncio.Task[None], _Coming] = {}

    def pull(
        self, source: bytes, value: Result, oid: _kernel.ObjectID, nested: list[_kernel.ObjectID]
    ) -> None:
        """`source` has told of the value, and names who has it: without names, itself."""
        coming = self._coming.get(value.id)
        if coming is not None and (coming.named_by, coming.value.size) != (source, value.size):
            self._drop(coming)  # it may have been made anew, with other bytes
            coming = None
        if coming is None:
            coming = self._coming[value.id] = _Coming(source, value, oid, nested)
        if coming.forgotten is not None:
            coming.forgotten.cancel()
            coming.forgotten = None
        self._look_who_waits()
        self._do(self.policy.wanted(value.id, value.size, coming.rank, value.sources or [source]))

    def gone(self, node: bytes) -> None:
        """It can't be reached any more."""
        self._do(self.policy.gone(node))

    def _do(self, actions: list[Action]) -> None:
        loop = asyncio.get_running_loop()
        for action in actions:
            coming = self._coming.get(action.key)
            if coming is None:
                continue
            if isinstance(action, Admit):
                coming.place = loop.create_task(self._allocate(action.size_bytes))
            elif isinstance(action, Fetch):
                self._keep(loop.create_task(self._fetch(coming, action)), coming)
            elif isinstance(action, Finish):
                del self._coming[action.key]
                late = [task for task in self._of(coming) if task is not asyncio.current_task()]
                if late:
                    self._keep(loop.create_task(self._finish(coming, late)), coming)
                else:
                    self._hand_over(coming)
            elif isinstance(action, Abandon):
                self._stop(coming)
            elif isinstance(action, AskSources):
                coming.forgotten = loop.call_later(KEPT_S, self._drop, coming)
                self.on_pulled(coming.value, coming.oid, coming.nested, None)

    def _keep(self, task: asyncio.Task[None], coming: _Coming) -> None:
        self._tasks[task] = coming
        task.add_done_callback(self._tasks.pop)

    def _of(self, coming: _Coming) -> list[asyncio.Task[None]]:
        return [task for task, of in self._tasks.items() if of is coming]

    async def _finish(self, coming: _Coming, late: list[asyncio.Task[None]]) -> None:
        """Pieces that came from elsewhere at last may still be written by the first source: not into memory
        that is handed over."""
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        self._hand_over(coming)

    def _hand_over(self, coming: _Coming) -> None:
        assert coming.place is not None
        self.on_pulled(coming.value, coming.oid, coming.nested, coming.place.result())

    async def _fetch(self, coming: _Coming, piece: Fetch) -> None:
        assert coming.place is not None
        try:
            block = await asyncio.shield(coming.place)
        except _kernel.ArenaClosed:
            return
        address = self.address_of(piece.source)
        came = False
        if address is not None:
            try:
                with memoryview(block) as whole, whole[piece.offset : piece.offset + piece.length] as into:
                    size = await self.client.fetch(address, piece.key, piece.offset, into)
                    came = size == coming.value.size
            except TransferError as error:
                say(f"a part of a value of {coming.value.size:,} bytes did not come: {error}")
        if self._coming.get(piece.key) is not coming:
            return
        self._look_who_waits()
        if came:
            self._do(self.policy.arrived(piece.key, piece.source, piece.offset))
        else:
            self._do(self.policy.failed(piece.key, piece.source, piece.offset))

    def _look_who_waits(self) -> None:
        """A thread may have begun to wait for what only tasks waited for: from now on that goes first."""
        for raw, coming in self._coming.items():
            if coming.rank is not Rank.USER and self.arena.is_watched(coming.oid):
                coming.rank = Rank.USER
                self.policy.hurry(raw, Rank.USER)

    def _drop(self, coming: _Coming) -> None:
        """What has come of it is of no use any more."""
        coming.forgotten = None  # which refers to it: memory must not wait for the garbage collector
        del self._coming[coming.value.id]
        self._stop(coming)
        self._do(self.policy.unwanted(coming.value.id))

    def _stop(self, coming: _Coming) -> None:
        """Its memory is freed when the last thread that writes there has ended."""
        for task in self._of(coming):
            task.cancel()
        if coming.place is not None:
            coming.place.cancel()
        coming.place = None

    async def _allocate(self, size: int) -> _kernel.Block:
        """Waits until there is room; what nobody uses goes to the spill file meanwhile."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await loop.run_in_executor(None, self.arena.allocate, size)
            except _kernel.StoreFull:
                await loop.run_in_executor(None, self.arena.wait_room, FULL_WAIT_MS)

    async def close(self) -> None:
        places = [coming.place for coming in self._coming.values() if coming.place is not None]
        tasks = [*self._tasks, *places]
        for coming in self._coming.values():
            if coming.forgotten is not None:
                coming.forgotten.cancel()
        self._coming.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.client.close()


def resolver(arena: _kernel.Arena) -> Callable[[bytes], contextlib.AbstractContextManager[memoryview] | None]:
    """For a `BulkServer`: the bytes of a value that is here, which stay in place while they are read."""

    @contextlib.contextmanager
    def reading(data: bytes | _kernel.View) -> Iterator[memoryview]:
        with memoryview(data) as view:
            yield view

    def resolve(raw: bytes) -> contextlib.AbstractContextManager[memoryview] | None:
        oid = arena.foreign((raw, 0))  # what is gone is a failure
        if not arena.is_ready(oid):
            return None
        fmt, data = arena.get(oid, 0)
        return None if fmt == _kernel.FORMAT_SYSTEM else reading(data)

    return resolve
