"""Large values come in pieces, from whoever has them, in the order in which they are needed."""

import asyncio
import contextlib
import gc
import hashlib
from collections.abc import AsyncIterator, Iterator

import pytest

from ray import _kernel
from ray.node.cluster import transfers
from ray.node.cluster.transfers import Pulls
from ray.policy.cluster import transfers as policy
from ray.policy.cluster.transfers import PIECE_BYTES
from ray.wire import bulk
from ray.wire.messages import Result
from tests.wire.running import IDENTITY, PATIENCE_S, run

A, B, C = b"a" * 20, b"b" * 20, b"c" * 20
VALUE = hashlib.shake_256(b"large").digest(1 << 20) * 20 + b"the end"
FORMAT = 2


class Source:
    """A node that has values; it breaks off, or says that it has none, after so many pieces."""

    def __init__(self, pieces: int = 1_000) -> None:
        self.left = pieces
        self.served: list[bytes] = []

    @contextlib.contextmanager
    def _read(self) -> Iterator[memoryview]:
        yield memoryview(VALUE)

    def resolve(self, raw: bytes) -> contextlib.AbstractContextManager[memoryview] | None:
        if not self.left:
            return None
        self.left -= 1
        self.served.append(raw)
        return self._read()


class Receiver:
    """An arena that pulls; `came` are values by their ids, None where nobody had them."""

    def __init__(self, heap: int, addresses: dict[bytes, str]) -> None:
        self.arena = _kernel.Arena.create(heap, [10_000, 0, 0])
        self.arena.register(_kernel.NODE_MANAGER)
        self.peer = self.arena.enter_peer(A)
        self.came: dict[bytes, bytes | None] = {}
        self.changed = asyncio.Event()
        self.pulls = Pulls(self.arena, IDENTITY, addresses.get, self._pulled)

    def _pulled(
        self,
        value: Result,
        oid: _kernel.ObjectID,
        nested: list[_kernel.ObjectID],
        block: _kernel.Block | None,
    ) -> None:
        self.came[value.id] = None if block is None else bytes(memoryview(block))
        self.changed.set()

    def pull(self, number: int, source: bytes, *sources: bytes) -> bytes:
        raw = bytes([number]) * 20
        value = Result(raw, FORMAT, None, len(VALUE), [], sources=list(sources))
        self.pulls.pull(source, value, self.arena.foreign((raw, self.peer)), [])
        return raw

    async def has(self, raw: bytes) -> bytes | None:
        while raw not in self.came:
            self.changed.clear()
            await self.changed.wait()
        return self.came.pop(raw)


@contextlib.asynccontextmanager
async def nodes(heap: int = 128 << 20, **sources: Source) -> AsyncIterator[Receiver]:
    from ray.wire.identity import BULK
    from ray.wire.listener import Listener

    servers, listeners, addresses = [], [], {}
    for name, source in sources.items():
        servers.append(bulk.BulkServer(source.resolve))
        listeners.append(Listener(IDENTITY, {BULK: servers[-1].accept}))
        addresses[name.encode() * 20] = await listeners[-1].start("127.0.0.1", 0)
    receiver = Receiver(heap, addresses)
    try:
        yield receiver
    finally:
        await receiver.pulls.close()
        for listener in listeners:
            listener.close()
        for server in servers:
            server.close()
        receiver.arena.leave()


def test_several_holders_serve_one_value() -> None:
    a, b = Source(), Source()

    async def main() -> None:
        async with nodes(a=a, b=b) as receiver:
            assert await receiver.has(receiver.pull(1, A, A, B)) == VALUE

    run(main())
    assert a.served
    assert b.served
    assert len(a.served) + len(b.served) == -(-len(VALUE) // PIECE_BYTES)


def test_a_source_that_fails_costs_its_own_piece_only() -> None:
    a, b = Source(1), Source()

    async def main() -> None:
        async with nodes(a=a, b=b) as receiver:
            assert await receiver.has(receiver.pull(1, A, A, B)) == VALUE

    run(main())
    assert len(a.served) == 1
    assert len(b.served) == -(-len(VALUE) // PIECE_BYTES) - 1


def test_of_what_could_not_be_had_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without the garbage collector, which does not come by itself in a process that makes little."""
    monkeypatch.setattr(transfers, "KEPT_S", 0.05)

    async def main() -> None:
        async with nodes(a=Source(1)) as receiver:
            assert await receiver.has(receiver.pull(1, A, A)) is None
            async with asyncio.timeout(PATIENCE_S):
                while receiver.arena.stats()["objects"] or receiver.arena.stats()["heap_used_bytes"]:
                    await asyncio.sleep(0.02)

    gc.disable()
    try:
        run(main())
    finally:
        gc.enable()


@pytest.mark.parametrize("named_by", [A, C])
def test_what_has_come_is_kept_while_the_same_node_names_others(named_by: bytes) -> None:
    """Another node may name a value that was made anew, with other bytes."""
    a, b = Source(1), Source()

    async def main() -> None:
        async with nodes(a=a, b=b) as receiver:
            assert await receiver.has(receiver.pull(1, A)) is None
            assert await receiver.has(receiver.pull(1, named_by, B)) == VALUE

    run(main())
    assert len(b.served) == -(-len(VALUE) // PIECE_BYTES) - (named_by == A)


def test_a_value_wanted_twice_comes_once() -> None:
    a = Source()

    async def main() -> None:
        async with nodes(a=a) as receiver:
            receiver.pull(1, A)
            assert await receiver.has(receiver.pull(1, A)) == VALUE

    run(main())
    assert len(a.served) == -(-len(VALUE) // PIECE_BYTES)


def test_what_is_on_its_way_never_fills_the_store() -> None:
    """Half of this store has room for one of them at a time."""
    a = Source()

    async def main() -> None:
        async with nodes(heap=64 << 20, a=a) as receiver:
            wanted = [receiver.pull(number, A) for number in range(1, 5)]
            for raw in wanted:
                assert receiver.pulls.policy.admitted_bytes <= (64 << 20) // transfers.STORE_PART
                assert await receiver.has(raw) == VALUE

    run(main())
    assert a.served == sorted(a.served)


def test_what_somebody_blocks_on_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    a = Source()
    monkeypatch.setattr(_kernel.Arena, "is_watched", lambda arena, oid: oid.binary()[0] == 3)

    async def main() -> None:
        async with nodes(heap=64 << 20, a=a) as receiver:
            wanted = [receiver.pull(number, A) for number in range(1, 4)]
            for raw in wanted:
                assert await receiver.has(raw) == VALUE

    run(main())
    order = list(dict.fromkeys(raw[0] for raw in a.served))
    assert order == [1, 3, 2]


def test_what_somebody_has_come_to_block_on_overtakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are on their way for tasks, when a thread begins to wait for the second."""
    a = Source()
    watched: set[bytes] = set()
    monkeypatch.setattr(_kernel.Arena, "is_watched", lambda arena, oid: oid.binary() in watched)
    monkeypatch.setattr(policy, "PIECE_BYTES", 1 << 20)

    async def main() -> None:
        async with nodes(a=a) as receiver:
            first, second = receiver.pull(1, A), receiver.pull(2, A)
            watched.add(second)
            for raw in (second, first):
                assert await receiver.has(raw) == VALUE

    run(main())
    pieces = -(-len(VALUE) // (1 << 20))
    assert [raw[0] for raw in a.served[:pieces]].count(1) == policy.PIECES_FROM_ONE
