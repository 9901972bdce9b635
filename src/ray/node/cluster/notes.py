"""What remote tasks print, and failures of tasks that they have begun, on their way to their driver.

Where such a task runs, the workers write what they print to a file of the job's (`ray.worker.output`), and
failures are in the journal. This node's manager follows both, for each driver elsewhere, and tells that
driver's node. There it writes what came to the driver's own file, the node's name before each line, and
enters the failures in the journal: for the driver they are like those of its own node. How much, and how
fast: `ray.policy.cluster.notes`.

How far the driver's node has come lies in a file beside the output, so that another node manager goes on
there. Each may be killed: what was confirmed is not told again, and a piece may be told twice only when the
driver's node manager ends between writing it and confirming it.
"""

import contextlib
import os
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping

from ray import _kernel
from ray.core.logs import STREAMS, of_job, open_log, open_log_for_reading
from ray.policy.cluster.notes import PIECE_BYTES, Failure, FailuresSent, Noted, OutputSent, Pace
from ray.serialization.failures import with_node
from ray.session.say import say
from ray.wire.messages import SMALL_VALUE_BYTES, JobNote, JobNoted, Message

FAILURES = 0  # as a kind of note; the others are the numbers of the standard streams
TEXT = 2  # the format of output
_PLACES = struct.Struct("<QQQ")  # confirmed: of failures, standard output, standard error

Send = Callable[[bytes, Message], bool]  # to a node; False: there is no link to it


class Guest:
    """A job of another node's driver, of which this node has something to tell."""

    def __init__(self, home: bytes, root: bytes, job: int, logs: str, journal_place: int) -> None:
        """Of the journal what comes after this place is its own, unless a node manager before this one has
        come to another."""
        self.home = home
        self.root = root
        self.job = job
        self.logs = logs
        self.failures = FailuresSent(journal_place)
        self.output = {stream: OutputSent() for stream in STREAMS}
        self.files: dict[int, int] = {}  # with what was printed; made before there is any
        self._places = -1
        if logs:
            self._recall()

    def _recall(self) -> None:
        try:
            for stream in STREAMS:
                self.files[stream] = open_log_for_reading(self.logs, of_job(self.job, stream))
            place = os.path.join(self.logs, f"job-{self.job}.told")
            self._places = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            known = os.pread(self._places, _PLACES.size, 0)
        except OSError as error:
            say(f"what job {self.job} prints can't be followed to its end: {error}")
            return
        if len(known) < _PLACES.size:
            self._keep_places()
            return
        self.failures.confirmed, *told = _PLACES.unpack(known)
        for output, place_told in zip(self.output.values(), told, strict=True):
            output.on_confirmed(place_told)

    def on_confirmed(self, kind: int, place: int) -> None:
        if kind == FAILURES:
            self.failures.on_confirmed(place)
        elif kind in self.output:
            self.output[kind].on_confirmed(place)
        self._keep_places()

    def _keep_places(self) -> None:
        if self._places >= 0:
            told = [output.confirmed for output in self.output.values()]
            with contextlib.suppress(OSError):
                os.pwrite(self._places, _PLACES.pack(self.failures.confirmed, *told), 0)

    def begin_again(self) -> None:
        self.failures.begin_again()
        for output in self.output.values():
            output.begin_again()

    def close(self, for_good: bool) -> None:
        for file in (*self.files.values(), self._places):
            if file >= 0:
                os.close(file)
        self.files, self._places = {}, -1
        if for_good and self.logs:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self.logs, f"job-{self.job}.told"))


class Telling:
    """This node's part for drivers of others."""

    def __init__(self, arena: _kernel.Arena, logs: str, send: Send, label: str = "") -> None:
        """`label` is how failures name this node."""
        self.arena = arena
        self.logs = logs
        self.send = send
        self.label = label
        self.guests: dict[tuple[bytes, bytes], Guest] = {}
        self._journal_place = arena.journal_last

    def follow(self, jobs: dict[tuple[bytes, bytes], int]) -> None:
        """These are the guests now: their jobs' numbers by home and root id."""
        if jobs.keys() == self.guests.keys():
            return
        for key in self.guests.keys() - jobs.keys():
            self.guests.pop(key).close(for_good=True)
        for key in jobs.keys() - self.guests.keys():
            guest = self.guests[key] = Guest(*key, jobs[key], self.logs, self._journal_place)
            # A node manager before this one may have left some of the journal unread.
            self._journal_place = min(self._journal_place, guest.failures.confirmed)

    def on_link_up(self, home: bytes) -> None:
        for guest in self.guests.values():
            if guest.home == home:
                guest.begin_again()

    def on_noted(self, home: bytes, noted: JobNoted) -> None:
        guest = self.guests.get((home, noted.root_id))
        if guest is not None:
            guest.on_confirmed(noted.kind, noted.place)

    def look(self, now_ms: int, at_once: bool = False) -> None:
        """Tells what is new; `at_once`: lines without an end as well, since a task has ended."""
        if not self.guests:
            self._journal_place = self.arena.journal_last
            return
        if self.arena.journal_last > self._journal_place:
            self._read_journal()
        for guest in self.guests.values():
            if guest.failures.has_any:
                self._tell_failures(guest)
            for stream, file in guest.files.items():
                output = guest.output[stream]
                size = os.lseek(file, 0, os.SEEK_END)
                if size != output.sent:
                    self._tell_output(guest, stream, output, file, size, now_ms, at_once)

    def _read_journal(self) -> None:
        by_job = {guest.job: guest for guest in self.guests.values()}
        while self.arena.journal_last > self._journal_place:
            self._journal_place, entries = self.arena.journal_read(self._journal_place)
            for sequence, kind, job, fmt, data in entries:
                if kind == _kernel.JOURNAL_ERROR and job in by_job:
                    told = with_node(fmt, data[:SMALL_VALUE_BYTES], self.label)
                    by_job[job].failures.add(Failure(sequence, fmt, told))

    def _tell_failures(self, guest: Guest) -> None:
        last = guest.failures.confirmed
        while failure := guest.failures.next():
            note = JobNote(guest.root, FAILURES, last, failure.sequence, failure.format, failure.data)
            if not self.send(guest.home, note):
                guest.failures.begin_again()
                return
            last = failure.sequence
        if guest.failures.left_out and guest.failures.is_told():
            output = guest.output[2]
            text = f"{guest.failures.left_out:,} failures more are left out: there were too many at once.\n"
            if self.send(guest.home, JobNote(guest.root, 2, output.sent, output.sent, TEXT, text.encode())):
                guest.failures.left_out = 0

    def _tell_output(
        self, guest: Guest, stream: int, output: OutputSent, file: int, size: int, now_ms: int, at_once: bool
    ) -> None:
        place = output.skip_to(size)
        if place is not None and output.room() > 0:
            place += os.pread(file, PIECE_BYTES, place).find(b"\n") + 1
            text = (
                f"{place - output.sent:,} bytes are left out here: more was printed than a driver elsewhere "
                f"is shown. All of it is there, in {os.path.join(guest.logs, of_job(guest.job, stream))}\n"
            )
            if not self._tell(guest, stream, output, place, text.encode()):
                return
        while output.sent < size and (room := output.room()) > 0:
            piece = os.pread(file, min(PIECE_BYTES, room, size - output.sent), output.sent)
            is_cut = output.sent + len(piece) < size
            piece = piece[: output.whole_lines(piece, size, is_cut, now_ms, at_once)]
            if not piece or not self._tell(guest, stream, output, output.sent + len(piece), piece):
                return

    def _tell(self, guest: Guest, stream: int, output: OutputSent, end: int, data: bytes) -> bool:
        if not self.send(guest.home, JobNote(guest.root, stream, output.sent, end, TEXT, data)):
            output.begin_again()
            return False
        output.sent = end
        return True

    def close(self) -> None:
        for guest in self.guests.values():
            guest.close(for_good=False)


class Hearing:
    """This node's part for its own drivers."""

    def __init__(self, arena: _kernel.Arena, logs: str, send: Send, name_of: Callable[[bytes], str]) -> None:
        """`name_of` a node is what its lines begin with."""
        self.arena = arena
        self.logs = logs
        self.send = send
        self.name_of = name_of
        self._noted = Noted()
        self._jobs: dict[bytes, int] = {}  # drivers of this node
        self._paces: dict[bytes, Pace] = {}
        self._unconfirmed: list[tuple[int, bytes, JobNoted]] = []  # and when they are to be
        self._no_room: deque[tuple[bytes, JobNote]] = deque()
        self._refused = False  # the file system has, the last time; said once

    def on_note(self, node: bytes, note: JobNote) -> None:
        if self._no_room or not self._enter(node, note):  # those that came before are entered first
            self._no_room.append((node, note))

    def _enter(self, node: bytes, note: JobNote) -> bool:
        """False: the object store has no room for it now."""
        job = self._job(note.root_id)
        if job is None:
            return True
        at = self._noted.fresh(node, note.root_id, note.kind, note.start, note.end, len(note.data))
        if note.kind == FAILURES:
            try:
                if at is not None:
                    self.arena.journal(_kernel.JOURNAL_ERROR, note.data, job, note.format)
            except _kernel.StoreFull:
                return False
        elif note.kind in STREAMS and (at is not None or note.start == note.end):
            self._write(node, job, note.kind, note.data[at or 0 :])
        now_ms = _now_ms()
        place = self._noted.enter(node, note.root_id, note.kind, note.end)
        pace = self._paces.setdefault(note.root_id, Pace(now_ms))
        due_ms = pace.take(len(note.data), now_ms)
        noted = JobNoted(note.root_id, note.kind, place)
        if due_ms > now_ms:
            self._unconfirmed.append((due_ms, node, noted))
        else:
            self.send(node, noted)
        return True

    def _job(self, root: bytes) -> int | None:
        if root not in self._jobs:
            self._jobs = {each: job for job, each in self.arena.drivers()}
            self._noted.keep_jobs(set(self._jobs))
            self._paces = {each: pace for each, pace in self._paces.items() if each in self._jobs}
        return self._jobs.get(root)

    def _write(self, node: bytes, job: int, stream: int, data: bytes) -> None:
        """Lines, each with the node's name; what has no end gets one, since others write there as well."""
        if not self.logs:
            return
        name = f"({self.name_of(node)}) ".encode()
        lines = data.split(b"\n")
        if not lines[-1]:
            del lines[-1]
        text = b"".join(b"%b%b\n" % (name, line) for line in lines)
        try:
            file = open_log(self.logs, of_job(job, stream))
            try:
                while text:
                    text = text[os.write(file, text) :]
            finally:
                os.close(file)
            self._refused = False
        except OSError as error:
            if not self._refused:
                self._refused = True
                say(f"what tasks of job {job} print on other nodes can't be written here: {error}")

    def tick(self, now_ms: int) -> None:
        """To be called several times a second as long as `is_to_tick`."""
        while self._no_room and self._enter(*self._no_room[0]):
            self._no_room.popleft()
        due = [each for each in self._unconfirmed if each[0] <= now_ms]
        if due:
            self._unconfirmed = [each for each in self._unconfirmed if each[0] > now_ms]
        for _, node, noted in due:
            self.send(node, noted)

    @property
    def is_to_tick(self) -> bool:
        return bool(self._unconfirmed or self._no_room)

    def forget(self, node: bytes) -> None:
        """It is dead."""
        self._noted.forget_node(node)

    def on_jobs_ended(self) -> None:
        self._jobs.clear()


def node_name(node: bytes, addresses: Mapping[bytes, str]) -> str:
    """What a node is called to users: its host, with the port where nodes share one."""
    address = addresses.get(node, "")
    host = address.rpartition(":")[0]
    hosts = [each.rpartition(":")[0] for each in addresses.values()]
    return (host if hosts.count(host) == 1 else address) or node.hex()[:8]


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
