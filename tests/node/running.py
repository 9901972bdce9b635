"""A node manager's parts over a real arena and real servers, in the test's own process."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray import _kernel
from ray.control_store.writer import StoreWriter
from ray.node.journal_copier import JournalCopier

RECORD = {"token": "abc", "num_cpus": 2}


def new_arena() -> _kernel.Arena:
    return _kernel.Arena.create(1 << 22, [20_000, 0, 0])


class Copying:
    """A copier that runs until the end of an `async with`."""

    def __init__(self, arena: _kernel.Arena, addresses: list[str], password: str, kept: int = 100) -> None:
        self.writers = [StoreWriter(address, password, kept) for address in addresses]
        self._executor = ThreadPoolExecutor(1)
        self.copier = JournalCopier(arena, self.writers, RECORD, self._executor)

    async def __aenter__(self) -> JournalCopier:
        self._task = asyncio.create_task(self.copier.run())
        return self.copier

    async def __aexit__(self, *_: Any) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for writer in self.writers:
            await writer.close()
        await asyncio.to_thread(self._executor.shutdown)
