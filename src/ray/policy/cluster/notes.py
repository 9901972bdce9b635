"""What of a job's output and failures goes to its driver's node, and when: bounded at both ends.

Each node has three streams for a driver elsewhere: its failures, and what its tasks print to standard
output and error. A stream is told in pieces, in order; the driver's node confirms how far it has come. So
much is under way at most, so much waits, and of more the middle is left out. The driver's node confirms
late what comes faster than it will have it, from all nodes together, and so slows them.
"""

from collections import deque
from dataclasses import dataclass, field

PIECE_BYTES = 64 << 10  # of output in one note; a longer line is cut
WINDOW_BYTES = 1 << 20  # of a stream that may be under way
BACKLOG_BYTES = 4 << 20  # that may wait behind it
KEPT_BYTES = 256 << 10  # of what waits, when it was too much
FAILURES_WAITING = 1_000  # of one job at one node
RATE_BYTES_S = 4 << 20  # of one driver, from all nodes
BURST_BYTES = 8 << 20
PARTIAL_MS = 1_000  # the beginning of a line waits so long for its end


@dataclass(slots=True)
class OutputSent:
    """Where a node is in a file that it tells the driver's node of."""

    confirmed: int = 0
    sent: int = 0
    partial: tuple[int, int] = (0, 0)  # size and time when a line without an end was seen first

    def begin_again(self) -> None:
        """What was under way may be lost."""
        self.sent = self.confirmed

    def on_confirmed(self, place: int) -> None:
        self.confirmed = max(self.confirmed, place)
        self.sent = max(self.sent, place)

    def room(self) -> int:
        """How many bytes may be sent now."""
        return WINDOW_BYTES - (self.sent - self.confirmed)

    def skip_to(self, size: int) -> int | None:
        """Where to go on, if too much waits in a file of this size."""
        return size - KEPT_BYTES if size - self.sent > BACKLOG_BYTES else None

    def whole_lines(self, piece: bytes, size: int, is_cut: bool, now_ms: int, at_once: bool) -> int:
        """How much of the bytes that come next to send now: lines, unless the rest of one is slow to come.

        `is_cut`: the file, of this size, goes on behind the piece."""
        whole = piece.rfind(b"\n") + 1
        if whole == len(piece) or (is_cut and whole):
            return whole
        if is_cut:
            return len(piece) if len(piece) >= PIECE_BYTES else 0  # else there is no room for its rest yet
        if at_once:
            return len(piece)
        if self.partial[0] != size:
            self.partial = (size, now_ms)
        return len(piece) if now_ms - self.partial[1] >= PARTIAL_MS else whole


@dataclass(frozen=True, slots=True)
class Failure:
    sequence: int
    format: int
    data: bytes


@dataclass(slots=True)
class FailuresSent:
    """The failures of one job that a node has for the driver's node."""

    confirmed: int = 0
    left_out: int = 0  # since that was last said
    _waiting: deque[Failure] = field(default_factory=deque)  # those under way first
    _sent: int = 0  # of these are under way

    def begin_again(self) -> None:
        self._sent = 0

    def add(self, failure: Failure) -> None:
        if failure.sequence <= self.confirmed:
            return
        if len(self._waiting) >= FAILURES_WAITING:
            self.left_out += 1
        else:
            self._waiting.append(failure)

    def on_confirmed(self, sequence: int) -> None:
        self.confirmed = max(self.confirmed, sequence)
        while self._waiting and self._waiting[0].sequence <= self.confirmed:
            self._waiting.popleft()
            self._sent = max(self._sent - 1, 0)

    def next(self) -> Failure | None:
        """What to send now; it is under way then."""
        under_way = sum(len(self._waiting[index].data) for index in range(self._sent))
        if self._sent == len(self._waiting) or under_way >= WINDOW_BYTES:
            return None
        self._sent += 1
        return self._waiting[self._sent - 1]

    @property
    def has_any(self) -> bool:
        """That are not confirmed, or of which it is not said that they were left out."""
        return bool(self._waiting or self.left_out)

    def is_told(self) -> bool:
        """Nothing waits to be sent."""
        return self._sent == len(self._waiting)


class Noted:
    """How far a driver's node has come in the streams of others."""

    def __init__(self) -> None:
        self._places: dict[tuple[bytes, bytes, int], int] = {}  # by node, job and kind

    def fresh(self, node: bytes, root: bytes, kind: int, start: int, end: int, size: int) -> int | None:
        """From where on a note of so many bytes is new; None: all of it is known."""
        known = self._places.get((node, root, kind), 0)
        if end <= known:
            return None
        return known - start if start < known and end - start == size else 0

    def enter(self, node: bytes, root: bytes, kind: int, end: int) -> int:
        """The note is written. Returns the place to confirm."""
        place = max(self._places.get((node, root, kind), 0), end)
        self._places[node, root, kind] = place
        return place

    def forget_node(self, node: bytes) -> None:
        self._places = {key: place for key, place in self._places.items() if key[0] != node}

    def keep_jobs(self, roots: set[bytes]) -> None:
        """All others have ended."""
        self._places = {key: place for key, place in self._places.items() if key[1] in roots}


class Pace:
    """How fast one driver is given what comes from other nodes."""

    def __init__(self, now_ms: int) -> None:
        self._even_ms = (
            now_ms - BURST_BYTES * 1000 // RATE_BYTES_S
        )  # when all that came would be due at that rate

    def take(self, size: int, now_ms: int) -> int:
        """So many bytes have come. When to confirm them."""
        burst_ms = BURST_BYTES * 1000 // RATE_BYTES_S
        self._even_ms = max(self._even_ms, now_ms - burst_ms) + size * 1000 // RATE_BYTES_S
        return max(self._even_ms, now_ms)
