"""The nodes of a cluster, as its head tells an operator, or who starts one."""

import asyncio
import dataclasses
import os
import time
from concurrent.futures import ThreadPoolExecutor

import ray
from ray.errors import RayConnectionError
from ray.session.record import SessionRecord
from ray.wire.connecting import connect
from ray.wire.identity import Identity
from ray.wire.link import End, Link
from ray.wire.messages import PROTOCOL, Drain, Hello, Message, NodeState, Resources, View

CONNECT_S = 2.0
NODE_ID_BYTES = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Left:
    """How a node's leaving went."""

    has_left: bool
    time_s: float


class HeadLink:
    """A link to the head of a cluster that this user has a node of here. Used in an event loop."""

    def __init__(self, record: SessionRecord) -> None:
        self.record = record
        self._link: Link | None = None
        self._view: View | None = None
        self._end: End | None = None
        self._news = asyncio.Event()

    async def __aenter__(self) -> "HeadLink":
        """Raises RayConnectionError when the head can't be reached."""
        identity = Identity(self.record.cluster_identity.encode())
        # No address: nobody can reach this one, which is no node.
        hello = Hello(PROTOCOL, ray.__version__, os.urandom(NODE_ID_BYTES), b"", "", False, Resources())
        address = self.record.head_address or self.record.link_address
        self._link = await connect(address, identity, hello, CONNECT_S)
        self._link.begin(self._on_messages, self._on_closed)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._link is not None
        self._link.close("done")

    async def nodes(self) -> list[NodeState]:
        """The head first. Waits for the head to say so."""
        while self._view is None:
            await self._wait()
        return sorted(self._view.nodes, key=lambda node: not node.is_head)

    async def joined(self, node_id: bytes) -> None:
        """Waits until the head counts that node as a member, and says so."""
        while not any(each.node_id == node_id for each in await self.nodes()):
            await self._wait()

    async def drain(self, node: NodeState, timeout_ms: int, patience_s: float) -> Left:
        """Until it has left, or so much longer than it may."""
        assert self._link is not None
        began_s = time.monotonic()
        self._link.send(Drain(node.node_id, timeout_ms))
        try:
            async with asyncio.timeout(timeout_ms / 1000 + patience_s):
                while any(each.node_id == node.node_id for each in await self.nodes()):
                    await self._wait()
        except TimeoutError:
            return Left(False, time.monotonic() - began_s)
        return Left(True, time.monotonic() - began_s)

    async def _wait(self) -> None:
        if self._end is not None:
            assert self._link is not None
            raise RayConnectionError.nobody_listens(self._link.address, f"the link to the head: {self._end}")
        self._news.clear()
        await self._news.wait()

    def _on_messages(self, link: Link, messages: list[Message]) -> None:
        for message in messages:
            if isinstance(message, View):
                self._view = message
                self._news.set()

    def _on_closed(self, link: Link, end: End) -> None:
        self._end = end
        self._news.set()


async def nodes_of(record: SessionRecord) -> list[NodeState]:
    """All nodes of the cluster that this one belongs to, the head first."""
    async with HeadLink(record) as head, asyncio.timeout(CONNECT_S):
        return await head.nodes()


def ask_nodes(record: SessionRecord) -> list[NodeState]:
    """The same for a caller that blocks, whose thread may run a loop.

    Raises RayConnectionError when the head does not answer.
    """
    with ThreadPoolExecutor(1, "ray-asking") as thread:
        try:
            return thread.submit(asyncio.run, nodes_of(record)).result()
        except TimeoutError:
            address = record.head_address or record.link_address
            raise RayConnectionError(
                f"The head of the cluster at {address} has not said in {CONNECT_S:g} s who belongs to it. "
                "What runs goes on meanwhile; ask again, or look at `ray status` there.",
                address,
            ) from None


def wait_joined(record: SessionRecord, patience_s: float) -> bool:
    """Until this node is a member of its cluster, to the head. False: it is not, after so long.

    Blocks; in a loop of its own, since the caller's thread may run one.
    """

    async def wait() -> None:
        async with asyncio.timeout(patience_s), HeadLink(record) as head:
            await head.joined(bytes.fromhex(record.node_id))

    with ThreadPoolExecutor(1, "ray-joining") as thread:
        try:
            thread.submit(asyncio.run, wait()).result()
        except (TimeoutError, RayConnectionError):
            return False
    return True
