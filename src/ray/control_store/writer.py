"""Writing the arena's journal into the control store, each entry once."""

import json
from collections.abc import Iterable
from typing import Any

from ray.control_store import schema
from ray.control_store.hold import Hold, Holder
from ray.control_store.link import Command, Link


class StoreWriter:
    """One server, written to by one node manager.

    Entries and the place reached are written in one transaction, so an entry is there exactly once however
    often writer and server are restarted. Every call may raise one of `ray.control_store.link.UNREACHABLE`.
    """

    def __init__(self, address: str, password: str, errors_kept: int, holder: Holder | None = None) -> None:
        """`holder`: this head, in an operator's database, which is made sure of before each batch."""
        self._errors_kept = errors_kept
        self._link = Link(address, password)
        self._hold = None if holder is None else Hold(self._link, holder)

    async def place(self) -> int:
        """The last journal entry it has; 0 for a server that is new, or was restarted."""
        if self._hold is not None:
            await self._hold.insist()
        return int(await self._link.ask("GET", schema.PLACE) or 0)

    async def jobs(self) -> dict[int, dict[str, Any]]:
        found = iter(await self._link.ask("HGETALL", schema.JOBS))
        return {int(job): json.loads(text) for job, text in zip(found, found, strict=True)}

    async def write_session(self, record: dict[str, Any]) -> None:
        fields: list[Any] = []
        for name, value in record.items():
            fields += [name, json.dumps(value)]
        await self._link.ask("HSET", schema.SESSION, *fields)

    async def write(self, commands: Iterable[Command], place: int) -> None:
        """Carries out the commands and notes the place, all or nothing."""
        await self._link.all_or_nothing([*commands, ("SET", schema.PLACE, place)])

    def error(self, sequence: int, job: int, fmt: int, data: bytes) -> Command:
        return _stream(schema.errors(job), self._errors_kept, sequence, job, fmt, data)

    def function(self, sequence: int, job: int, fmt: int, data: bytes) -> Command:
        return _stream(schema.FUNCTIONS, schema.FUNCTIONS_KEPT, sequence, job, fmt, data)

    def note(self, sequence: int, job: int, fmt: int, data: bytes) -> Command:
        return _stream(schema.NOTES, schema.NOTES_KEPT, sequence, job, fmt, data)

    def job(self, number: int, record: dict[str, Any]) -> Command:
        return ("HSET", schema.JOBS, number, json.dumps(record))

    def forget_job(self, number: int) -> Command:
        return ("HDEL", schema.JOBS, number)

    def expire_errors(self, number: int) -> Command:
        return ("EXPIRE", schema.errors(number), schema.ENDED_JOB_ERRORS_S)

    async def close(self) -> None:
        await self._link.close()


def _stream(key: str, kept: int, sequence: int, job: int, fmt: int, data: bytes) -> Command:
    fields = (schema.FIELD_JOB, job, schema.FIELD_FORMAT, fmt, schema.FIELD_DATA, data)
    return ("XADD", key, "MAXLEN", kept, schema.entry_id(sequence), *fields)
