"""Copying the arena's journal to the control store, and finding the place again after any restart."""

import asyncio
import json
from concurrent.futures import Executor
from typing import Any

from ray import _kernel
from ray.control_store import schema
from ray.control_store.link import UNREACHABLE, Command
from ray.control_store.writer import StoreWriter
from ray.core.job_entries import CODE, HOME, SYS_PATH

Entry = tuple[int, int, int, int, bytes]  # sequence, kind, job, format, data

FIRST_RETRY_S, LAST_RETRY_S = 0.05, 2.0
WAIT_MS = 1_000  # for a new entry, in a thread of the executor


class JournalCopier:
    """One per session. Errors go to their job's server, all else to the primary.

    The place lies in each server, so that neither a new node manager nor a new server loses or doubles
    an entry; a server that comes back empty is filled from what the journal still holds.
    """

    def __init__(
        self, arena: _kernel.Arena, writers: list[StoreWriter], record: dict[str, Any], executor: Executor
    ) -> None:
        self.arena = arena
        self.writers = writers
        self.record = record
        self.executor = executor
        self.places: list[int] = []  # of each server; empty when they must be asked
        self.jobs: dict[int, dict[str, Any]] = {}

    async def run(self) -> None:
        """Until the arena is shut."""
        retry_s = FIRST_RETRY_S
        while True:
            try:
                await self._follow()
            except _kernel.ArenaClosed:
                return
            except UNREACHABLE:
                # The keeper starts a dead server again; nothing is lost meanwhile, the journal keeps it.
                self.places = []
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, LAST_RETRY_S)
            else:
                retry_s = FIRST_RETRY_S

    async def _follow(self) -> None:
        """One batch, from the place of the server that is furthest behind."""
        places = [await writer.place() for writer in self.writers]
        if places != self.places:
            self.jobs = await self.writers[schema.PRIMARY].jobs()
            if places[schema.PRIMARY] == 0:
                await self.writers[schema.PRIMARY].write_session(self.record)
        loop = asyncio.get_running_loop()
        place, entries = await loop.run_in_executor(
            self.executor, self.arena.journal_read, min(places), WAIT_MS
        )
        if entries:
            await self._write(places, place, entries)
            places = [max(place, own) for own in places]
        self.places = places

    async def _write(self, places: list[int], place: int, entries: list[Entry]) -> None:
        for server, writer in enumerate(self.writers):
            commands: list[Command] = []
            for entry in entries:
                if entry[0] > places[server] and self._server(entry) == server:
                    commands += self._commands(writer, entry)
            if place > places[server]:
                await writer.write(commands, place)

    def _server(self, entry: Entry) -> int:
        _, kind, job, _, _ = entry
        return (
            schema.errors_server(job, len(self.writers)) if kind == _kernel.JOURNAL_ERROR else schema.PRIMARY
        )

    def _commands(self, writer: StoreWriter, entry: Entry) -> list[Command]:
        sequence, kind, job, fmt, data = entry
        if kind == _kernel.JOURNAL_ERROR:
            return [writer.error(sequence, job, fmt, data)]
        if kind == _kernel.JOURNAL_FUNCTION:
            return [writer.function(sequence, job, fmt, data)]
        if kind == _kernel.JOURNAL_JOB:
            return self._job(writer, job, json.loads(data))
        return [writer.note(sequence, job, fmt, data)]

    def _job(self, writer: StoreWriter, number: int, event: dict[str, Any]) -> list[Command]:
        pid, time_s = event["pid"], event["time_s"]
        if event["event"] == "started":
            started = {"pid": pid, "root_id": event["root_id"], "name": event["name"], "start_time_s": time_s}
            # For workers who look when the journal has it no more.
            started.update({name: event[name] for name in (SYS_PATH, CODE, HOME) if name in event})
            self.jobs[number] = started
            commands = [writer.job(number, started)]
            for old in sorted(self.jobs)[: -schema.JOBS_KEPT]:
                del self.jobs[old]
                commands.append(writer.forget_job(old))
            return commands
        # The end of a driver that was killed is written by the node manager, which knows its pid only.
        running = [
            job for job, record in self.jobs.items() if record["pid"] == pid and "end_time_s" not in record
        ]
        commands = []
        for job in running:
            self.jobs[job]["end_time_s"] = time_s
            commands += [writer.job(job, self.jobs[job]), writer.expire_errors(job)]
        return commands
