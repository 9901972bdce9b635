"""Who holds what, in several processes, against a graph: ids in values, passed by hand, from bytes.

An object lives as long as something that lives refers to it: an id or a view in a living process, or a
living value that contains it. Not longer: the arena's count of objects is the model's.
"""

import dataclasses
import os
import pickle
from collections import Counter
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ray import _kernel
from tests.properties.clients import Client, Hands, Refused
from tests.properties.forms import run_machine

PICKLE = 0
HEAP_BYTES = 16 << 20
CLIENTS = 3
Value = tuple[bytes, list[_kernel.ObjectID] | None]
PICK = st.integers(0, 1 << 30)
SIZES = st.sampled_from([0, 50, 3000, 5000, 100_000])  # in the record, copied, in a block
WAYS = st.sampled_from(["pickled", "bytes", "bytes and key"])
SEVERAL = st.lists(PICK, max_size=4)


class Holder(Hands):
    """Holds ids and views by the model's numbers."""

    def __init__(self, arena: _kernel.Arena) -> None:
        super().__init__(arena)
        self.ids: dict[int, list[_kernel.ObjectID]] = {}
        self.views: dict[int, list[Any]] = {}

    def _note(self, number: int, oid: _kernel.ObjectID) -> tuple[bytes, int]:
        self.ids.setdefault(number, []).append(oid)
        return oid.binary(), oid.key

    def _value(
        self, number: int, nested: list[int], size: int
    ) -> tuple[bytes, list[_kernel.ObjectID] | None]:
        value = number, [(each, self.ids[each][0]) for each in nested], b"x" * size
        return _kernel.collect(pickle.dumps, value)

    def put(self, number: int, nested: list[int], size: int) -> tuple[bytes, int]:
        data, contained = self._value(number, nested, size)
        return self._note(number, self.arena.put(data, PICKLE, contained))

    def reserve(self, number: int) -> tuple[bytes, int]:
        return self._note(number, self.arena.reserve())

    def seal(self, number: int, value: int, nested: list[int], size: int) -> bool:
        data, contained = self._value(value, nested, size)
        return self.arena.seal(self.ids[number][0], data, PICKLE, contained)

    def look(self, number: int, keep_view: bool, unpack: bool) -> tuple[int, int, list[int]]:
        """Format, the value's number, the numbers of the ids in it, which `unpack` holds from here on."""
        fmt, data = self.arena.get(self.ids[number][0], 0)
        if fmt != PICKLE:
            return fmt, 0, []
        if keep_view:
            self.views.setdefault(number, []).append(data)
        value, nested, _ = pickle.loads(bytes(data))
        numbers = [each for each, _ in nested]
        if unpack:
            for each, oid in nested:
                self._note(each, oid)
        return fmt, value, numbers

    def copy(self, number: int) -> None:
        self._note(number, pickle.loads(pickle.dumps(self.ids[number][0])))

    def pickled(self, number: int) -> bytes:
        return pickle.dumps(self.ids[number][0])

    def unpickled(self, number: int, data: bytes) -> bytes:
        return self._note(number, pickle.loads(data))[0]

    def from_bytes(self, number: int, data: bytes, key: int) -> None:
        self._note(number, _kernel.ObjectID(data, key))

    def probe(self, data: bytes, key: int) -> None:
        self.arena.get(_kernel.ObjectID(data, key), 0)

    def drop(self, number: int) -> None:
        self.ids[number].pop()

    def drop_view(self, number: int) -> None:
        self.views[number].pop()

    def ready(self, numbers: list[int]) -> list[bool]:
        ids = [self.ids[each][0] for each in numbers]
        done, waiting = self.arena.wait(ids, len(ids), 0)
        assert [each for each in ids if each in done] == done
        assert [each for each in ids if each in waiting] == waiting
        assert len(done) + len(waiting) == len(ids)
        single = [self.arena.is_ready(each) for each in ids]
        assert single == [each in done for each in ids]
        return single


@dataclasses.dataclass
class Object:
    binary: bytes
    key: int
    maker: int  # the client that reserved it
    value: int | None  # None: pending
    nested: list[int]
    size: int = 0
    failed: bool = False  # its maker died first


class References(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.arena = _kernel.Arena.create(HEAP_BYTES, [10_000, 0, 0])
        self.arena.register(_kernel.NODE_MANAGER)
        self.clients = [self._client() for _ in range(CLIENTS)]
        self.objects: dict[int, Object] = {}
        self.dead: list[tuple[bytes, int]] = []
        self.ids: Counter[tuple[int, int]] = Counter()  # (client, object)
        self.views: Counter[tuple[int, int]] = Counter()
        self.made = 0

    def _client(self) -> Client:
        return Client(self.arena, _kernel.DRIVER, Holder, os.urandom(16) + bytes(4))

    # --- the model ---

    def _pruned(self) -> None:
        """Forgets what nothing that lives refers to any more."""
        living: set[int] = set()
        todo = [number for _, number in (+self.ids + +self.views)]
        while todo:
            number = todo.pop()
            if number not in living:
                living.add(number)
                todo += self.objects[number].nested
        for number in self.objects.keys() - living:
            gone = self.objects.pop(number)
            self.dead.append((gone.binary, gone.key))

    def _held(self, client: int) -> list[int]:
        return sorted(number for (who, number), count in self.ids.items() if who == client and count)

    def _picked(self, client: int, picks: list[int]) -> list[int]:
        held = self._held(client)
        return list(dict.fromkeys(held[pick % len(held)] for pick in picks)) if held else []

    def _who(self, pick: int) -> tuple[int, int] | None:
        """A client and something it holds."""
        held = sorted(each for each, count in self.ids.items() if count)
        return held[pick % len(held)] if held else None

    def _lose(self, held: Counter[tuple[int, int]], client: int, number: int) -> None:
        held[client, number] -= 1
        held += Counter()  # without those at zero
        self._pruned()

    # --- making ---

    @rule(client=st.integers(0, CLIENTS - 1), picks=SEVERAL, size=SIZES)
    def put(self, client: int, picks: list[int], size: int) -> None:
        nested = self._picked(client, picks)
        self.made += 1
        binary, key = self.clients[client].do("put", self.made, nested, size)
        self.objects[self.made] = Object(binary, key, client, self.made, nested, size)
        self.ids[client, self.made] += 1

    @rule(client=st.integers(0, CLIENTS - 1))
    def reserve(self, client: int) -> None:
        self.made += 1
        binary, key = self.clients[client].do("reserve", self.made)
        self.objects[self.made] = Object(binary, key, client, None, [])
        self.ids[client, self.made] += 1

    @rule(pick=PICK, picks=SEVERAL, size=SIZES)
    def seal(self, pick: int, picks: list[int], size: int) -> None:
        if (who := self._who(pick)) is None:
            return
        client, number = who
        target = self.objects[number]
        # What contains itself lives as long as its session; not what is tried here.
        nested = [each for each in self._picked(client, picks) if not self._leads_to(each, number)]
        self.made += 1
        first = self.clients[client].do("seal", number, self.made, nested, size)
        assert first == (target.value is None and not target.failed)
        if first:
            target.value, target.nested, target.size = self.made, nested, size

    def _leads_to(self, number: int, goal: int) -> bool:
        return number == goal or any(self._leads_to(each, goal) for each in self.objects[number].nested)

    # --- passing on ---

    @rule(pick=PICK)
    def copy(self, pick: int) -> None:
        if who := self._who(pick):
            self.clients[who[0]].do("copy", who[1])
            self.ids[who] += 1

    @rule(
        pick=PICK, to=st.integers(0, CLIENTS - 1), way=st.sampled_from(["pickled", "bytes", "bytes and key"])
    )
    def pass_on(self, pick: int, to: int, way: str) -> None:
        if (who := self._who(pick)) is None:
            return
        number = who[1]
        known = self.objects[number]
        if way == "pickled":
            data = self.clients[who[0]].do("pickled", number)
            assert self.clients[to].do("unpickled", number, data) == known.binary
        else:
            self.clients[to].do(
                "from_bytes", number, known.binary, known.key if way == "bytes and key" else 0
            )
        self.ids[to, number] += 1

    @rule(pick=PICK, keep_view=st.booleans(), unpack=st.booleans())
    def look(self, pick: int, keep_view: bool, unpack: bool) -> None:
        if (who := self._who(pick)) is None:
            return
        client, number = who
        known = self.objects[number]
        if known.value is None and not known.failed:
            self._is_refused("WaitTimeout", client, "look", number, keep_view, unpack)
            return
        seen = self.clients[client].do("look", number, keep_view, unpack)
        if known.failed:
            assert seen[0] == _kernel.FORMAT_SYSTEM
            return
        assert seen == (PICKLE, known.value, known.nested)
        if keep_view and known.size > _kernel.COPY_BYTES:  # a small one is a copy
            self.views[client, number] += 1
        if unpack:
            self.ids.update((client, each) for each in known.nested)

    @rule(client=st.integers(0, CLIENTS - 1), picks=SEVERAL)
    def ready(self, client: int, picks: list[int]) -> None:
        numbers = self._picked(client, picks)
        if numbers:
            known = [self.objects[each] for each in numbers]
            expected = [each.value is not None or each.failed for each in known]
            assert self.clients[client].do("ready", numbers) == expected

    # --- letting go ---

    def _keeps(self, client: int, number: int) -> bool:
        """Whoever reserves a value keeps an id of it until it is there: then all learn of its death."""
        known = self.objects[number]
        waiting = known.value is None and not known.failed
        return waiting and known.maker == client and self.ids[client, number] == 1

    @rule(pick=PICK)
    def drop(self, pick: int) -> None:
        who = self._who(pick)
        if who and not self._keeps(*who):
            self.clients[who[0]].do("drop", who[1])
            self._lose(self.ids, *who)

    @precondition(lambda self: +self.views)
    @rule(pick=PICK)
    def drop_view(self, pick: int) -> None:
        held = sorted(+self.views)
        client, number = held[pick % len(held)]
        self.clients[client].do("drop_view", number)
        self._lose(self.views, client, number)

    @rule(client=st.integers(0, CLIENTS - 1))
    def die(self, client: int) -> None:
        self.clients[client].kill()
        self.clients[client] = self._client()
        for held in (self.ids, self.views):
            for who in [who for who in held if who[0] == client]:
                del held[who]
        for known in self.objects.values():
            if known.maker == client:
                known.failed = known.failed or known.value is None
                known.maker = -1
        self._pruned()

    @rule(client=st.integers(0, CLIENTS - 1))
    def leave(self, client: int) -> None:
        """As death, but what it would have made stays open until its successor's death, so none is."""
        if any(known.maker == client and known.value is None for known in self.objects.values()):
            return
        self.clients[client].leave()
        self.clients[client] = self._client()
        for held in (self.ids, self.views):
            for who in [who for who in held if who[0] == client]:
                del held[who]
        self._pruned()

    # --- looking ---

    @precondition(lambda self: self.dead)
    @rule(client=st.integers(0, CLIENTS - 1), pick=PICK, with_key=st.booleans())
    def the_dead_are_gone(self, client: int, pick: int, with_key: bool) -> None:
        self._settle()
        binary, key = self.dead[pick % len(self.dead)]
        self._is_refused("StaleHandle", client, "probe", binary, key if with_key else 0)

    def _is_refused(self, kind: str, client: int, step: str, *args: Any) -> None:
        with pytest.raises(Refused) as caught:
            self.clients[client].do(step, *args)
        assert caught.value.kind == kind

    def _settle(self) -> None:
        for client in self.clients:
            client.do("settle")

    @rule()
    def count(self) -> None:
        self._settle()
        assert self.arena.stats()["objects"] == len(self.objects)
        assert self.arena.check() == []

    def teardown(self) -> None:
        if not hasattr(self, "clients"):
            return
        try:
            self.count()
            for who, count in (+self.ids).items():
                for _ in range(count):
                    self.clients[who[0]].do("drop", who[1])
            for who, count in (+self.views).items():
                for _ in range(count):
                    self.clients[who[0]].do("drop_view", who[1])
            self.objects.clear()
            self.count()
        finally:
            for client in self.clients:
                client.leave()
            stats = self.arena.stats()
            self.arena.leave()
        assert (stats["objects"], stats["references"], stats["heap_used_bytes"]) == (0, 0, 0)


def test_references_against_a_graph() -> None:
    run_machine(References, short=10, steps=50)
