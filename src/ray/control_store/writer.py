"""Writing the arena's journal into the control store, each entry once."""

import json
from collections.abc import Iterable
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ray.control_store import schema

# What a caller catches to try again.
UNREACHABLE = (redis.exceptions.RedisError, OSError)
TIMEOUT_S = 2.0


class StoreWriter:
    """One server, written to by one node manager.

    Entries and the place reached are written in one MULTI, so an entry is there exactly once however
    often writer and server are restarted.
    """

    def __init__(self, address: str, password: str, errors_kept: int) -> None:
        host, _, port = address.rpartition(":")
        self._errors_kept = errors_kept
        # One connection, and no silent retry: a server that was restarted in between is empty.
        self._redis = redis.asyncio.Redis(
            host=host.strip("[]"),
            port=int(port),
            password=password,
            single_connection_client=True,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
        )

    async def place(self) -> int:
        """The last journal entry it has; 0 for a server that is new, or was restarted."""
        return int(await self._redis.get(schema.PLACE) or 0)

    async def jobs(self) -> dict[int, dict[str, Any]]:
        found = await self._redis.hgetall(schema.JOBS)
        return {int(job): json.loads(text) for job, text in found.items()}

    async def write_session(self, record: dict[str, Any]) -> None:
        fields: list[Any] = []
        for name, value in record.items():
            fields += [name, json.dumps(value)]
        await self._redis.execute_command("HSET", schema.SESSION, *fields)  # type: ignore[no-untyped-call]

    async def write(self, commands: Iterable[tuple[Any, ...]], place: int) -> None:
        """Carries out the commands and notes the place, all or nothing."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            pipeline.set(schema.PLACE, place)
            await pipeline.execute()

    def error(self, sequence: int, job: int, fmt: int, data: bytes) -> tuple[Any, ...]:
        return _stream(schema.errors(job), self._errors_kept, sequence, job, fmt, data)

    def function(self, sequence: int, job: int, fmt: int, data: bytes) -> tuple[Any, ...]:
        return _stream(schema.FUNCTIONS, schema.FUNCTIONS_KEPT, sequence, job, fmt, data)

    def note(self, sequence: int, job: int, fmt: int, data: bytes) -> tuple[Any, ...]:
        return _stream(schema.NOTES, schema.NOTES_KEPT, sequence, job, fmt, data)

    def job(self, number: int, record: dict[str, Any]) -> tuple[Any, ...]:
        return ("HSET", schema.JOBS, number, json.dumps(record))

    def forget_job(self, number: int) -> tuple[Any, ...]:
        return ("HDEL", schema.JOBS, number)

    def expire_errors(self, number: int) -> tuple[Any, ...]:
        return ("EXPIRE", schema.errors(number), schema.ENDED_JOB_ERRORS_S)

    async def close(self) -> None:
        await self._redis.aclose()


def _stream(key: str, kept: int, sequence: int, job: int, fmt: int, data: bytes) -> tuple[Any, ...]:
    fields = (schema.FIELD_JOB, job, schema.FIELD_FORMAT, fmt, schema.FIELD_DATA, data)
    return ("XADD", key, "MAXLEN", kept, schema.entry_id(sequence), *fields)
