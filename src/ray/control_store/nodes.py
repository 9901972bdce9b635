"""The table of nodes: who is a member, and where, and who was declared dead.

The head's node manager alone writes it.
"""

import dataclasses
import json

from ray.control_store import schema
from ray.control_store.hold import Hold, Holder
from ray.control_store.link import Link


@dataclasses.dataclass(frozen=True, slots=True)
class NodeEntry:
    """What is kept of one node (one incarnation of it)."""

    address: str  # where other nodes reach it
    dead: str = ""  # why it was declared dead; "": it is a member


class NodeTable:
    """Every call may raise one of `ray.control_store.link.UNREACHABLE`, within seconds."""

    def __init__(self, address: str, password: str, holder: Holder | None = None) -> None:
        """`holder`: this head, in an operator's database, which each call then makes sure of."""
        self._link = Link(address, password)
        self._hold = None if holder is None else Hold(self._link, holder)

    async def _insist(self) -> None:
        if self._hold is not None:
            await self._hold.insist()

    async def read(self) -> dict[bytes, NodeEntry]:
        await self._insist()
        found = iter(await self._link.ask("HGETALL", schema.NODES))
        return {
            bytes.fromhex(node.decode()): NodeEntry(**json.loads(text))
            for node, text in zip(found, found, strict=True)
        }

    async def write(self, entries: dict[bytes, NodeEntry | None]) -> None:
        """All or nothing; None: the entry is removed."""
        commands: list[tuple[str | bytes | int, ...]] = []
        for node, entry in entries.items():
            if entry is None:
                commands.append(("HDEL", schema.NODES, node.hex()))
            else:
                text = json.dumps(dataclasses.asdict(entry))
                commands.append(("HSET", schema.NODES, node.hex(), text))
        await self._insist()
        await self._link.all_or_nothing(commands)

    async def is_there(self) -> bool:
        """Whether the server has the table: one that was started anew has none."""
        await self._insist()
        return bool(await self._link.ask("EXISTS", schema.NODES))

    async def close(self) -> None:
        await self._link.close()
