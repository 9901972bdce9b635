"""Which large values come here from which nodes, in which order; and whom an owner names as sources.

A value is *admitted* when the store has given it memory for all of its bytes; then its pieces are asked for,
from several sources at once. What is admitted is bounded, so transfers never overfill the store: the next in
line waits for room, and nobody behind it goes first, or a large value would wait for ever.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

PIECE_BYTES = 8 << 20  # asked for at one time: a broken source costs no more than that
PIECES_FROM_ONE = 2  # under way from one source, of all values: one comes while the next is asked for
PREFETCH_PART = 2  # prefetches get one part in so many of the room

RECEIVERS_OF_ONE = 2  # at one time from one source: what many nodes want spreads as a tree
SOURCES_OF_ONE = 4  # named to one receiver: more than fill its line
# Who has waited so long for its turn gets it: those before it may themselves wait, for room in their stores.
PATIENCE_TICKS = 50

NodeId = bytes
Key = bytes  # an object's id


class Rank(IntEnum):
    """What a value is wanted for; lower goes first."""

    USER = 0  # somebody blocks on it
    TASK = 1  # a queued task needs it
    PREFETCH = 2


@dataclass(frozen=True, slots=True)
class Admit:
    """Get memory for the value; what is fetched goes there."""

    key: Key
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask the source for a piece. It ends with `arrived` or `failed`."""

    key: Key
    source: NodeId
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Finish:
    """All of it is here: seal it."""

    key: Key


@dataclass(frozen=True, slots=True)
class Abandon:
    """Free its memory; what still comes of it is thrown away. If it is wanted, it begins anew later."""

    key: Key


@dataclass(frozen=True, slots=True)
class AskSources:
    """No source is left: ask its owner. The answer is `found`, or `unwanted` when it is lost."""

    key: Key


Action = Admit | Fetch | Finish | Abandon | AskSources


@dataclass(slots=True)
class _Pull:
    """One wanted value."""

    key: Key
    size_bytes: int
    rank: Rank
    number: int  # in the order of wanting
    sources: list[NodeId] = field(default_factory=list)
    admitted: bool = False
    asked: bool = False  # its owner, for sources
    missing: deque[int] = field(default_factory=deque)  # offsets of pieces nobody was asked for
    coming: dict[int, NodeId] = field(default_factory=dict)  # offsets of pieces, and from where

    @property
    def order(self) -> tuple[int, int]:
        return self.rank, self.number


class Pulls:
    """The values that come to one node."""

    def __init__(self, room_bytes: int) -> None:
        """`room_bytes`: what all values on their way may take of the store at one time."""
        self.room_bytes = room_bytes
        self._pulls: dict[Key, _Pull] = {}
        self._busy: dict[NodeId, int] = {}  # pieces under way from each source
        self._count = 0

    @property
    def admitted_bytes(self) -> int:
        """Of the store, taken by values that are on their way."""
        return sum(pull.size_bytes for pull in self._pulls.values() if pull.admitted)

    def wanted(self, key: Key, size_bytes: int, rank: Rank, sources: Iterable[NodeId]) -> list[Action]:
        """Somebody wants it. If others do already there is one transfer, of the most urgent rank."""
        pull = self._pulls.get(key)
        if pull is None:
            self._count += 1
            pull = self._pulls[key] = _Pull(key, size_bytes, rank, self._count)
        pull.rank = min(pull.rank, rank)
        return self.found(key, sources)

    def hurry(self, key: Key, rank: Rank) -> None:
        """It is more urgent than it was; that counts from the next event on."""
        if pull := self._pulls.get(key):
            pull.rank = min(pull.rank, rank)

    def unwanted(self, key: Key) -> list[Action]:
        """Nobody wants it any more, or it is lost."""
        pull = self._pulls.pop(key, None)
        if pull is None:
            return []
        self._stop(pull)
        return [*([Abandon(key)] if pull.admitted else []), *self._go_on()]

    def found(self, key: Key, sources: Iterable[NodeId]) -> list[Action]:
        """Nodes that have it."""
        if pull := self._pulls.get(key):
            pull.sources += [source for source in sources if source not in pull.sources]
            pull.asked = pull.asked and not pull.sources
        return self._go_on()

    def room_changed(self, room_bytes: int) -> list[Action]:
        """The store can spare so much for transfers, now."""
        self.room_bytes = room_bytes
        return self._go_on()

    def arrived(self, key: Key, source: NodeId, offset: int) -> list[Action]:
        """A piece is in its place."""
        pull = self._pulls.get(key)
        if pull is None or pull.coming.get(offset) != source:
            return []
        del pull.coming[offset]
        self._free(source)
        actions: list[Action] = []
        if not pull.missing and not pull.coming:
            del self._pulls[key]
            actions.append(Finish(key))
        return actions + self._go_on()

    def failed(self, key: Key, source: NodeId, offset: int) -> list[Action]:
        """The source does not have it any more, or broke off in this piece.

        What came from it stays, and what else is under way from there may come; the rest comes from others.
        """
        if pull := self._pulls.get(key):
            if source in pull.sources:
                pull.sources.remove(source)
            if pull.coming.get(offset) == source:
                del pull.coming[offset]
                self._free(source)
                pull.missing.appendleft(offset)
        return self._go_on()

    def gone(self, source: NodeId) -> list[Action]:
        """A node can't be reached."""
        for pull in self._pulls.values():
            if source in pull.sources:
                pull.sources.remove(source)
            self._take_back(pull, source)
        return self._go_on()

    def _go_on(self) -> list[Action]:
        ordered = sorted(self._pulls.values(), key=lambda pull: pull.order)
        actions = self._admit(ordered)
        for pull in ordered:
            if not pull.sources and not pull.asked:
                pull.asked = True
                actions.append(AskSources(pull.key))
            if pull.admitted:
                self._fetch(pull, actions)
        return actions

    def _admit(self, ordered: list[_Pull]) -> list[Action]:
        actions: list[Action] = []
        taken = self.admitted_bytes
        for pull in ordered:
            if pull.admitted:
                continue
            if not pull.sources:
                continue  # memory for what nobody has would be idle
            room = self.room_bytes
            if pull.rank is Rank.PREFETCH:
                room //= PREFETCH_PART
            # What is less urgent makes room, the last first.
            for victim in reversed(ordered):
                if taken + pull.size_bytes <= room or victim.rank <= pull.rank:
                    break
                if victim.admitted and victim.rank is Rank.PREFETCH:
                    self._stop(victim)
                    victim.admitted = False
                    taken -= victim.size_bytes
                    actions.append(Abandon(victim.key))
            # One that is larger than all the room comes alone; the store spills for it, or refuses.
            if taken and taken + pull.size_bytes > room:
                break
            pull.admitted = True
            taken += pull.size_bytes
            pull.missing.extend(range(0, max(pull.size_bytes, 1), PIECE_BYTES))
            actions.append(Admit(pull.key, pull.size_bytes))
        return actions

    def _fetch(self, pull: _Pull, actions: list[Action]) -> None:
        while pull.missing:
            free = [source for source in pull.sources if self._busy.get(source, 0) < PIECES_FROM_ONE]
            if not free:
                return
            # The one that does least; of equals, the one that was named first.
            source = min(free, key=lambda each: self._busy.get(each, 0))
            offset = pull.missing.popleft()
            pull.coming[offset] = source
            self._busy[source] = self._busy.get(source, 0) + 1
            actions.append(Fetch(pull.key, source, offset, min(PIECE_BYTES, pull.size_bytes - offset)))

    def _take_back(self, pull: _Pull, source: NodeId) -> None:
        for offset in [offset for offset, of in pull.coming.items() if of == source]:
            del pull.coming[offset]
            self._free(source)
            pull.missing.appendleft(offset)

    def _stop(self, pull: _Pull) -> None:
        for source in pull.coming.values():
            self._free(source)
        pull.coming.clear()
        pull.missing.clear()

    def _free(self, source: NodeId) -> None:
        self._busy[source] -= 1
        if not self._busy[source]:
            del self._busy[source]


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell the receiver that it may fetch the value from these."""

    key: Key
    receiver: NodeId
    sources: tuple[NodeId, ...]


@dataclass(slots=True)
class _Copies:
    """One value's copies, and who fetches it."""

    serving: OrderedDict[NodeId, int] = field(
        default_factory=OrderedDict
    )  # each copy's receivers at this time
    receiving: dict[NodeId, tuple[NodeId, ...]] = field(default_factory=dict)
    waiting: OrderedDict[NodeId, int] = field(default_factory=OrderedDict)  # for how many ticks


class Spread:
    """An owner's part: who may fetch from whom, so that nobody serves more than `RECEIVERS_OF_ONE` at a time.

    A receiver that has it serves others, so n nodes have a value after about log n times what one transfer
    takes.
    """

    def __init__(self) -> None:
        self._values: dict[Key, _Copies] = {}

    def has(self, key: Key, node: NodeId) -> list[Answer]:
        """A node has all of it: made there, or fetched."""
        copies = self._values.setdefault(key, _Copies())
        self._end(copies, node)
        copies.waiting.pop(node, None)
        copies.serving.setdefault(node, 0)
        return self._answer(key, copies)

    def asked(self, key: Key, receiver: NodeId) -> list[Answer]:
        """A node wants it, for the first time or because its sources have failed.

        It is answered when it is its turn.
        """
        copies = self._values.setdefault(key, _Copies())
        self._end(copies, receiver)
        copies.waiting[receiver] = 0
        return self._answer(key, copies)

    @property
    def anybody_waits(self) -> bool:
        return any(copies.waiting for copies in self._values.values())

    def tick(self) -> list[Answer]:
        """To be called several times a second while anybody waits."""
        answers = []
        for key, copies in self._values.items():
            for receiver in list(copies.waiting):
                copies.waiting[receiver] += 1
                if copies.waiting[receiver] >= PATIENCE_TICKS and copies.serving:
                    source = min(copies.serving, key=lambda node: copies.serving[node])
                    answers.append(self._name(key, copies, receiver, (source,)))
        return answers

    def lost(self, key: Key, node: NodeId) -> list[Answer]:
        """A copy is no more there."""
        copies = self._values.get(key)
        if copies is None:
            return []
        copies.serving.pop(node, None)
        return self._answer(key, copies)

    def gave_up(self, key: Key, receiver: NodeId) -> list[Answer]:
        """It does not want it any more."""
        copies = self._values.get(key)
        if copies is None:
            return []
        self._end(copies, receiver)
        copies.waiting.pop(receiver, None)
        return self._answer(key, copies)

    def gone(self, node: NodeId) -> list[Answer]:
        """A node is dead: as a copy, and as a receiver."""
        answers = []
        for key, copies in self._values.items():
            copies.serving.pop(node, None)
            copies.waiting.pop(node, None)
            self._end(copies, node)
            answers += self._answer(key, copies)
        return answers

    def freed(self, key: Key) -> list[NodeId]:
        """The object is no more, here at least. Returns who still waits for an answer."""
        copies = self._values.pop(key, None)
        return list(copies.waiting) if copies is not None else []

    def forget_if_only(self, node: NodeId, key: Key) -> None:
        """Where nobody but `node` has, fetches or wants it there is nothing to know."""
        copies = self._values.get(key)
        if (
            copies is not None
            and not copies.receiving
            and not copies.waiting
            and copies.serving.keys() <= {node}
        ):
            del self._values[key]

    def forget_idle(self) -> None:
        """Copies of what nobody fetches or wants at this time: it is asked for anew as if there were none."""
        for key, copies in list(self._values.items()):
            if not copies.receiving and not copies.waiting:
                del self._values[key]

    def knows(self, key: Key) -> bool:
        return key in self._values

    @property
    def keys(self) -> list[Key]:
        return list(self._values)

    def sources_of(self, key: Key, receiver: NodeId) -> tuple[NodeId, ...]:
        """From whom it fetches at this time, as far as it was told."""
        copies = self._values.get(key)
        return copies.receiving.get(receiver, ()) if copies is not None else ()

    def copies(self, key: Key) -> list[NodeId]:
        """Who has all of it."""
        return list(self._values[key].serving) if key in self._values else []

    def _end(self, copies: _Copies, receiver: NodeId) -> None:
        for source in copies.receiving.pop(receiver, ()):
            if source in copies.serving:
                copies.serving[source] -= 1

    def _answer(self, key: Key, copies: _Copies) -> list[Answer]:
        answers = []
        while copies.waiting:
            free = sum(max(0, RECEIVERS_OF_ONE - count) for count in copies.serving.values())
            if free <= 0:
                break
            # Several sources for each when few want it; one for each when many do.
            count = max(1, min(SOURCES_OF_ONE, free // len(copies.waiting)))
            able = [node for node, serves in copies.serving.items() if serves < RECEIVERS_OF_ONE]
            sources = tuple(sorted(able, key=lambda node: copies.serving[node])[:count])
            answers.append(self._name(key, copies, next(iter(copies.waiting)), sources))
        return answers

    def _name(self, key: Key, copies: _Copies, receiver: NodeId, sources: tuple[NodeId, ...]) -> Answer:
        del copies.waiting[receiver]
        for source in sources:
            copies.serving[source] += 1
        copies.receiving[receiver] = sources
        return Answer(key, receiver, sources)
