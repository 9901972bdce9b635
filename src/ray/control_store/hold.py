"""Whose an operator's database is: one head's at a time. It says so in a key, and goes on saying so.

The key ends by itself when nobody renews it, so a head that was killed is in nobody's way: on its own machine
at once, since one can look there whether it still runs, elsewhere within `LEASE_MS`.
"""

import contextlib
import dataclasses
import json
import os
import socket
import time
from collections.abc import Callable
from typing import Any, Self

from ray.control_store import schema
from ray.control_store.link import Link, Refused

LEASE_MS = 10_000
START_MS = 30_000  # until a head that is being started renews it
RENEW_S = 2.0
LOOK_S = 0.25  # between two looks whether somebody else renews it
ANSWER_S = 2.0
END_S = 1.0  # that a process which was killed takes to be gone

Ask = Callable[..., Any]  # a command of the store's, with its reply


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    """A head that uses a database, or is about to."""

    name: str  # of this start
    host: str
    pid: int  # whose end is the head's
    began: int  # when that process was started, in the machine's ticks
    place: str  # where process numbers mean these processes: the boot, and the namespace
    address: str = ""  # where other nodes reach it; "": it is being started

    @classmethod
    def of(cls, name: str, pid: int, address: str = "") -> Self:
        """A process of this machine."""
        return cls(name, socket.gethostname(), pid, _began(pid), _place(), address)

    @classmethod
    def load(cls, text: bytes) -> Self:
        """Another release may say more."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in json.loads(text).items() if name in known})

    def dump(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    def __str__(self) -> str:
        process = f"process {self.pid} on {self.host}"
        return f"{process}, with its head at {self.address}" if self.address else f"{process}, just starting"

    @property
    def lives(self) -> bool | None:
        """None for one of another machine: it can't be known."""
        return _began(self.pid) == self.began if self.place == _place() else None

    def answers(self) -> bool:
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
        except (OSError, ValueError):
            return False
        return True


def take(ask: Ask, own: Holder) -> Holder | None:
    """Makes the database this head's, for `START_MS` at first; else returns who has it and lives.

    Of a head that nobody hears of it waits for the end, for `LEASE_MS` at most."""
    began_s, left_ms = time.monotonic(), START_MS
    while ask("SET", schema.HEAD, own.dump(), "NX", "PX", str(START_MS)) != b"OK":
        found = ask("GET", schema.HEAD)
        if not isinstance(found, bytes):
            continue
        other = Holder.load(found)
        lives = other.lives
        if lives is False:
            let_go(ask, other)
            continue
        before_ms, left_ms = left_ms, ask("PTTL", schema.HEAD)
        if not other.address or left_ms > before_ms or other.answers():
            return other
        if lives and time.monotonic() > began_s + END_S:
            return other
        time.sleep(LOOK_S)
    return None


def hand_over(ask: Ask, own: Holder) -> None:
    """The process that took it hands it to the head that it has started."""
    _change(ask, own, ("SET", schema.HEAD, own.dump(), "PX", str(START_MS)))


def let_go(ask: Ask, holder: Holder) -> None:
    """If it is still this one's."""
    _change(ask, holder, ("UNLINK", schema.HEAD))


def _change(ask: Ask, holder: Holder, command: tuple[str, ...]) -> None:
    ask("WATCH", schema.HEAD)
    found = ask("GET", schema.HEAD)
    if isinstance(found, bytes) and Holder.load(found).name == holder.name:
        ask("MULTI")
        ask(*command)
        ask("EXEC")  # which does nothing if it has changed since
    else:
        ask("UNWATCH")


class TakenError(Refused):
    """Another head uses the database."""


class Hold:
    """A running head's. Every call may raise one of `ray.control_store.link.UNREACHABLE`."""

    def __init__(self, link: Link, own: Holder) -> None:
        self._link = link
        self._own = own
        self._renewed_s = -RENEW_S

    async def insist(self) -> None:
        """Renews it when it is time to. Raises TakenError when it is another's now."""
        now_s = time.monotonic()
        if now_s - self._renewed_s < RENEW_S:
            return
        await self._link.ask("WATCH", schema.HEAD)
        found = await self._link.ask("GET", schema.HEAD)
        if found is not None and (other := Holder.load(found)).name != self._own.name:
            await self._link.close()
            raise TakenError(f"is used by another cluster now, {other}")
        renewal = ("SET", schema.HEAD, self._own.dump(), "PX", LEASE_MS)
        await self._link.all_or_nothing([renewal])  # nothing, if it has changed since: the next look shows it
        self._renewed_s = now_s


def _place() -> str:
    boot = ""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    return f"{boot}:{os.stat('/proc/self/ns/pid').st_ino}"


def _began(pid: int) -> int:
    """0 for a process that has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in b"ZX" else int(fields[19])
