"""The code of scripts, from the drivers to the nodes whose workers import it.

A worker asks in the journal (`ray.core.code_notes`). For a driver of this node the driver is asked, in the
same way; for one of another node that node is, which asks its driver and says where the packed code is. It
is fetched like a large value, checked against its digest, and unpacked in the session's folder, where jobs
with the same code find it. Where the driver's folder is there with the same content, as on a shared file
system, nothing is fetched. Nothing is imported or run here.
"""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from ray import _kernel
from ray.core import code_notes, script_code
from ray.core.job_entries import CODE
from ray.core.logs import CODE_FOLDER
from ray.node.cluster.notes import Send
from ray.session import jobs
from ray.wire import messages
from ray.wire.bulk import BulkClient, TransferError
from ray.wire.identity import Identity
from ray.wire.messages import CodeGiven, CodeWanted

PACKED_MAX_BYTES = script_code.CODE_BYTES + (8 << 20)  # what does not get smaller gets a little larger
ASK_AGAIN_MS = 1_000  # a worker asks again and again; the driver is asked once in this time


class Homes(Protocol):
    def guest(self, job: int) -> tuple[bytes, bytes] | None:
        """Node and root id of another node's driver, by its number here."""

    def number(self, home: bytes, root: bytes) -> int | None:
        """The other way round."""


class Codes:
    """Used on the event loop's thread; files are read and written in threads."""

    def __init__(
        self,
        arena: _kernel.Arena,
        node: bytes,
        logs: str,
        send: Send,
        homes: Homes,
        identity: Identity,
        address_of: Callable[[bytes], str | None],
    ) -> None:
        self.arena = arena
        self.node = node
        self.folder = os.path.join(logs, CODE_FOLDER) if logs else ""
        self.send = send
        self.homes = homes
        self.identity = identity
        self.address_of = address_of
        self._place = arena.journal_last
        self._placed: dict[int, str] = {}  # by job
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._wanted_here: set[int] = set()  # of drivers of this node
        self._given: dict[int, dict[str, Any]] = {}  # by drivers of this node
        self._askers: dict[int, set[bytes]] = {}  # nodes that want a driver's of this node
        self._asked_ms: dict[int, int] = {}

    def look(self) -> None:
        """At what the journal has new."""
        while self.arena.journal_last > self._place:
            self._place, entries = self.arena.journal_read(self._place)
            for entry in entries:
                note = code_notes.read(entry)
                job = entry[2]
                if not note:
                    continue
                if note["event"] == code_notes.WANTED and not note.get("by_node"):
                    self._wanted(job)
                elif note["event"] == code_notes.GIVEN:
                    self._given[job] = note
                    self._answer(job)
                elif note["event"] == code_notes.REFUSED:
                    self._refuse(job, note["reason"])

    # --- what workers of this node want ---

    def _wanted(self, job: int) -> None:
        if job in self._placed:
            self._say_placed(job, self._placed[job], [])
            return
        guest = self.homes.guest(job)
        if guest is not None:
            if job not in self._tasks:
                self.send(guest[0], CodeWanted(guest[1]))
            return
        self._wanted_here.add(job)
        if job in self._given:  # else its driver has read the same
            self._place_own(job)

    def on_given(self, node: bytes, given: CodeGiven) -> None:
        job = self.homes.number(node, given.root_id)
        if job is None or job in self._tasks or job in self._placed:
            return
        if given.object is None or given.size > PACKED_MAX_BYTES:
            reason = given.reason or f"the packed code has {given.size:,} bytes"
            code_notes.write(self.arena, job, code_notes.REFUSED, reason=reason)
            return
        self._start(job, self._bring(job, node, given))

    def _place_own(self, job: int) -> None:
        if job in self._tasks or job in self._placed:
            return
        given = self._given[job]
        oid = bytes.fromhex(given["object"])
        made = CodeGiven(oid, oid, given["size"], given["digest"], given["left_out"], "")
        self._start(job, self._bring(job, self.node, made))

    def _start(self, job: int, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks[job] = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda _: self._tasks.pop(job, None))

    async def _bring(self, job: int, node: bytes, given: CodeGiven) -> None:
        loop = asyncio.get_running_loop()
        try:
            there = await loop.run_in_executor(None, self._same_content, job, given.digest)
            if there:
                self._say_placed(job, there, given.left_out)
                return
            into = os.path.join(self.folder, os.path.basename(given.digest))
            if not os.path.isdir(into):
                data = await self._packed(node, given)
                await loop.run_in_executor(None, script_code.unpack, data, given.digest, into)
            self._say_placed(job, into, given.left_out)
        except (OSError, script_code.DamagedCodeError) as error:
            code_notes.write(self.arena, job, code_notes.REFUSED, reason=str(error))
        except _kernel.ArenaClosed:
            return

    async def _packed(self, node: bytes, given: CodeGiven) -> bytes:
        assert given.object is not None
        if node == self.node:
            return bytes(self.arena.get(self.arena.foreign((given.object, 0)), 0)[1])
        address = self.address_of(node)
        if address is None:
            raise TransferError(node.hex()[:8], "it is no member any more")
        data = bytearray(given.size)
        client = BulkClient(self.identity, threads=1)
        try:
            with memoryview(data) as into:
                await client.fetch(address, given.object, 0, into)
        finally:
            client.close()
        return bytes(data)

    def _same_content(self, job: int, digest: str) -> str:
        """The driver's folder, if it is here with the same in it."""
        code = (jobs.start_of(self.arena, job) or {}).get(CODE)
        folder = code["folder"] if code else ""
        if not folder or not os.path.isdir(folder):
            return ""
        return folder if script_code.pack(folder).digest == digest else ""

    def _say_placed(self, job: int, folder: str, left_out: list[str]) -> None:
        self._placed[job] = folder
        code_notes.write(self.arena, job, code_notes.PLACED, folder=folder, left_out=left_out)

    # --- what other nodes want of this node's drivers ---

    def on_wanted(self, node: bytes, wanted: CodeWanted) -> None:
        job = next((job for job, root in self.arena.drivers() if root == wanted.root_id), None)
        if job is None:
            self.send(node, CodeGiven(wanted.root_id, None, 0, "", [], "its driver has ended"))
            return
        self._askers.setdefault(job, set()).add(node)
        if job in self._given:
            self._answer(job)
        elif _now_ms() - self._asked_ms.get(job, -ASK_AGAIN_MS) >= ASK_AGAIN_MS:
            self._asked_ms[job] = _now_ms()
            code_notes.write(self.arena, job, code_notes.WANTED, by_node=True)

    def _answer(self, job: int) -> None:
        given = self._given[job]
        self._tell(
            job,
            lambda root: CodeGiven(
                root, bytes.fromhex(given["object"]), given["size"], given["digest"], given["left_out"], ""
            ),
        )
        if job in self._wanted_here:
            self._place_own(job)

    def _refuse(self, job: int, reason: str) -> None:
        text = reason[: messages.MAX_TEXT]
        self._tell(job, lambda root: CodeGiven(root, None, 0, "", [], text))

    def _tell(self, job: int, made: Callable[[bytes], CodeGiven]) -> None:
        roots = dict(self.arena.drivers())
        for node in self._askers.pop(job, ()):
            if job in roots:
                self.send(node, made(roots[job]))

    def forget(self, living: set[int]) -> None:
        """Of jobs that have ended."""
        self._wanted_here &= living
        known: dict[int, Any]
        for known in (self._placed, self._given, self._askers, self._asked_ms):
            for job in known.keys() - living:
                del known[job]

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
