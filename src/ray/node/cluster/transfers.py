"""Large values on their way: from other nodes' stores straight into this one's, and the other way round."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from ray import _kernel
from ray.session.say import say
from ray.wire.bulk import BulkClient, TransferError
from ray.wire.identity import Identity
from ray.wire.messages import Result

AT_ONCE = 4
FULL_WAIT_MS = 100  # for memory to be freed, when values in use fill the store

OnPulled = Callable[[Result, _kernel.ObjectID, list[_kernel.ObjectID], _kernel.Block | None], None]


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
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(AT_ONCE)

    def pull(
        self, source: bytes, value: Result, oid: _kernel.ObjectID, nested: list[_kernel.ObjectID]
    ) -> None:
        task = asyncio.get_running_loop().create_task(self._pull(source, value, oid, nested))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pull(
        self, source: bytes, value: Result, oid: _kernel.ObjectID, nested: list[_kernel.ObjectID]
    ) -> None:
        async with self._room:
            block = await self._allocate(value.size)
            address = self.address_of(source)
            came = False
            if address is not None:
                try:
                    with memoryview(block) as into:
                        came = await self.client.fetch(address, value.id, 0, into) == value.size
                except TransferError as error:
                    say(f"a value of {value.size:,} bytes did not come: {error}")
        self.on_pulled(value, oid, nested, block if came else None)

    async def _allocate(self, size: int) -> _kernel.Block:
        """Waits until there is room; what nobody uses goes to the spill file meanwhile."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await loop.run_in_executor(None, self.arena.allocate, size)
            except _kernel.StoreFull:
                await loop.run_in_executor(None, self.arena.wait_room, FULL_WAIT_MS)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.client.close()


def resolver(arena: _kernel.Arena) -> Callable[[bytes], contextlib.AbstractContextManager[memoryview] | None]:
    """For a `BulkServer`: the bytes of a value that is here, which stay in place while they are read."""

    @contextlib.contextmanager
    def reading(oid: _kernel.ObjectID) -> Iterator[memoryview]:
        _, data = arena.get(oid, 0)
        with memoryview(data) as view:
            yield view

    def resolve(raw: bytes) -> contextlib.AbstractContextManager[memoryview] | None:
        oid = arena.foreign((raw, 0))  # what is gone is a failure
        return reading(oid) if arena.is_ready(oid) else None

    return resolve
