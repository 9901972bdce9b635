"""Arenas of one process as nodes, and a node manager in a few lines: what the kernel leaves to it.

Messages wait in a queue for each link until somebody delivers them; a link that breaks loses them, and
Sync puts right what was lost.
"""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable

from ray import _kernel
from ray.node.cluster.ids import SERVED_INDEX, around, as_owned

CPU = 10_000
RAW = 2
SMALL = 64 << 10
LEAVE = 1 << 62  # the number of a call with which an actor is to leave its node
Ref = tuple[bytes, bytes]  # an id and its owner's node id
Known = tuple[bytes, int]  # an id and the number of its owner here


def encoded(number: int, size: int = 16) -> bytes:
    return number.to_bytes(8, "little").ljust(size, b".")


def decoded(data: "bytes | memoryview | _kernel.View") -> int:
    return int.from_bytes(bytes(data)[:8], "little")


class Node:
    """An arena with a driver, a node manager and a worker, all in this process."""

    def __init__(self, network: "Network", cpus: int = 2, heap: int = 8 << 20) -> None:
        self.network = network
        self.node_id = os.urandom(20)
        self.manager = _kernel.Arena.create(heap, [cpus * CPU, 0, 0])
        self.manager.register(_kernel.NODE_MANAGER, os.urandom(16) + bytes(4))
        self.driver = _kernel.Arena.attach(self.manager.fd)
        self.root_id = os.urandom(16) + bytes(4)
        self.driver.register(_kernel.DRIVER, self.root_id)
        self.worker = _kernel.Arena.attach(self.manager.fd)
        self.worker.register(_kernel.WORKER)
        self.baseline = self.counts()

    def let_go(self) -> None:
        """Of what was dropped here."""
        for arena in (self.driver, self.worker, self.manager):
            arena.stats()

    def counts(self) -> dict[str, int]:
        self.let_go()
        stats = self.manager.stats()
        return {
            name: stats[name] for name in ("objects", "tasks", "links", "references", "loans", "processes")
        }

    def check(self) -> None:
        assert self.manager.check() == []

    # --- numbers of this arena, and names that all nodes know ---

    def peer(self, other: "Node") -> int:
        return self.manager.enter_peer(other.node_id)

    def name(self, owner: int) -> bytes:
        return dict(self.manager.peers())[owner] if owner else self.node_id

    def number(self, node_id: bytes) -> int:
        return 0 if node_id == self.node_id else self.manager.enter_peer(node_id)

    def outward(self, refs: list[Known]) -> list[Ref]:
        return [(raw, self.name(owner)) for raw, owner in refs]

    def inward(self, refs: list[Ref]) -> list[Known]:
        return [(raw, self.number(node_id)) for raw, node_id in refs]

    # --- what a driver and a worker do ---

    def submit(
        self,
        function: _kernel.ObjectID,
        number: int,
        deps: list[_kernel.ObjectID] | None = None,
        nested: list[_kernel.ObjectID] | None = None,
        num_returns: int = 1,
        retries: int = 3,
        size: int = 16,
    ) -> list[_kernel.ObjectID]:
        payload = encoded(number) + size.to_bytes(8, "little")
        ids = self.driver.submit(
            function, payload, deps, nested, num_returns, self.driver.shape(CPU, 0, 0), retries
        )
        return ids if isinstance(ids, list) else [] if ids is None else [ids]

    def work(self, fail: bytes | None = None, inner: int | None = None) -> bool:
        """Runs one ready task: its result is its number and the sum of its arguments, and ids it contains."""
        if not self.manager.stats()["ready_tasks"]:
            return False
        work = self.worker.next()
        assert work is not None
        _, key, payload, deps, num_returns, _ = work
        assert decoded(self.worker.get(self.worker.function(key), 0)[1]) == 1
        total = decoded(payload) + sum(decoded(self.worker.get(dep, 0)[1]) for dep in deps or [])
        nested = None if inner is None else [self.worker.put(encoded(inner), RAW)]
        if fail is not None:
            self.worker.fail(fail, 100)
        else:
            size = int.from_bytes(payload[16:24], "little")
            self.worker.finish([(encoded(total + i, size), RAW, nested) for i in range(num_returns)])
        self.worker.complete()
        del deps, nested
        return True

    def create(self, cls: _kernel.ObjectID, **options: int) -> _kernel.ObjectID:
        shape = self.driver.shape(CPU, 0, 0)
        return self.driver.create_actor(cls, encoded(0), None, None, shape, options.get("interval", 0))

    def handle(self, raw: bytes) -> _kernel.ObjectID:
        """Of an actor that a value named which this node has."""
        return self.driver.foreign((raw, 0))

    def call(
        self,
        actor: _kernel.ObjectID,
        number: int,
        deps: list[_kernel.ObjectID] | None = None,
        num_returns: int = 1,
    ) -> _kernel.ObjectID | list[_kernel.ObjectID] | None:
        return self.driver.call(actor, encoded(number), deps, None, num_returns, 7)

    # --- what the node manager does ---

    def offload(self, other: "Node", most: int = 100) -> int:
        sent = 0
        for shape, _, _, _, tasks, _ in self.manager.queues():
            sent += self.run(other, self.manager.send_tasks(self.peer(other), shape, min(tasks, most)))
        return sent

    def run(self, other: "Node", tasks: "list[_kernel.SentTask]") -> int:
        for task in tasks:
            home, root = self.manager.job_root(task[1]) or (0, bytes(20))
            function = self.outward([task[2]])[0] if task[2] else None
            deps, nested = self.outward(task[4]), self.outward(task[5])
            actor = self.outward([task[12]])[0] if task[12] else None
            checkpoint = self.outward([task[16]])[0] if task[16] else None
            rest = (task[3], deps, nested, task[6:12], actor, task[13:16], checkpoint, task[17])
            self.network.send(self, other, "run", (task[0], self.name(home), root, function, *rest))
        return len(tasks)

    def on_run(self, sender: "Node", task: tuple) -> None:  # type: ignore[type-arg]
        task_id, home, root, function, payload, deps, nested, rest, actor, last, checkpoint, turn = task
        job = self.driver.job if home == self.node_id else self.manager.enter_guest(self.number(home), root)
        ref = self.inward([function])[0] if function else None
        served = self.inward([actor])[0] if actor else None
        saved = self.inward([checkpoint])[0] if checkpoint else None
        ids = self.inward(deps), self.inward(nested)
        received = (task_id, job, ref, payload, *ids, *rest, served, *last, saved, turn)
        self.manager.receive_tasks(self.peer(sender), [received])

    def on_kill(self, sender: "Node", raw: bytes) -> None:
        self.manager.kill_actor(self.manager.foreign((raw, 0)))
        self.network.send(self, sender, "killed", raw)

    def on_killed(self, sender: "Node", raw: bytes) -> None:
        self.manager.heard_of_end(self.peer(sender), raw)

    def tell_news(self) -> int:
        items = self.manager.news(1000, 0)
        for item in items:
            if item[0] == _kernel.NEWS_DONE:
                _, peer, raw, fmt, data, size, nested, failed, turn = item
                node = self.network.nodes.get(self.name(peer))
                if node:
                    message = (raw, fmt, data, size, self.outward(nested), failed, turn)
                    self.network.send(self, node, "result", message)
            elif item[0] == _kernel.NEWS_CHECKPOINT:
                _, value, peer, actor, turn, is_last = item
                if (node := self.network.nodes.get(self.name(peer))) is not None:
                    self.manager.lend(peer, [value])
                    fmt, data = self.manager.get(value, 0)
                    refs = self.outward(self.manager.lend_nested(peer, value))
                    told = (actor, turn, value.binary(), fmt, bytes(data), refs, is_last)
                    self.network.send(self, node, "checkpoint", told)
            elif item[0] == _kernel.NEWS_CALLS:
                _, actor, peer, ends = item
                if (other := self.network.nodes.get(self.name(peer))) is not None:
                    if ends is not None:
                        self.network.send(self, other, "kill", ends)
                    self.run(other, self.manager.send_calls(peer, actor, 3))
            elif item[0] == _kernel.NEWS_WANTED:
                oid = item[1]
                where = self.manager.location(oid)
                owner = self.manager.owner(oid)
                source = self.name(where[0] if where else owner)
                raw = around(oid.binary()) if where and where[0] == owner else oid.binary()
                if source in self.network.nodes:
                    self.network.send(self, self.network.nodes[source], "want", raw)
            elif item[0] == _kernel.NEWS_GONE:
                _, raw, owner, notes, located = item
                there = around(raw) if located and located == owner else raw
                returned = [(peer, (raw, times)) for peer, times in notes]
                returned += [(located, (there, 1))] if located else []
                for peer, counted in returned:
                    if (node := self.network.nodes.get(self.name(peer))) is not None:
                        self.network.send(self, node, "return", counted)
        return sum(item[0] != _kernel.NEWS_QUEUED for item in items)

    def on_result(self, sender: "Node", result: tuple) -> None:  # type: ignore[type-arg]
        raw, fmt, data, size, nested, failed, turn = result
        peer = self.peer(sender)
        fresh = self.manager.finish_return(peer, raw, fmt, data, size, self.inward(nested), failed, turn)
        if data is not None or not fresh:
            self.network.send(self, sender, "return", (raw, 1))

    def on_checkpoint(self, sender: "Node", told: tuple) -> None:  # type: ignore[type-arg]
        actor, turn, raw, fmt, data, nested, is_last = told
        peer = self.peer(sender)
        refs = self.inward(nested)
        held = [self.manager.foreign(ref) for ref in refs]
        self.manager.note(peer, [(raw, peer), *refs])
        value = self.manager.foreign((raw, peer))
        if self.manager.owner(value) == 0:  # it was taken before
            self.network.send(self, sender, "return", (raw, 1))
        if not self.manager.is_ready(value):
            self.manager.seal(value, data, fmt, held)
        if self.manager.take_checkpoint(peer, self.manager.foreign((actor, 0)), turn, value):
            for returned in self.manager.forget_notes(peer, [raw]):
                self.network.send(self, sender, "return", returned)
        if is_last:
            self.manager.reclaim_actor(peer, self.manager.foreign((actor, 0)))
            self.network.send(self, sender, "return", (actor[:-4] + SERVED_INDEX, 1))

    def on_return(self, sender: "Node", returned: tuple[bytes, int]) -> None:
        self.manager.take_back(self.peer(sender), [returned])

    def on_want(self, sender: "Node", raw: bytes) -> None:
        oid = self.manager.foreign((raw, 0))
        if not self.manager.is_ready(oid):
            if (where := self.manager.location(oid)) is not None:
                self.network.send(self, sender, "stored", (raw, self.name(where[0])))
            else:
                self.network.waits.append((self, sender, raw))
            return
        self.give(sender, oid)

    def give(self, receiver: "Node", oid: _kernel.ObjectID) -> None:
        fmt, data = self.manager.get(oid, 0)
        refs = self.manager.lend_nested(self.peer(receiver), oid)
        self.network.send(self, receiver, "value", (oid.binary(), fmt, bytes(data), self.outward(refs)))

    def on_stored(self, sender: "Node", stored: tuple[bytes, bytes]) -> None:
        raw, node_id = stored
        if node_id in self.network.nodes:
            self.network.send(self, self.network.nodes[node_id], "want", raw)

    def on_value(self, sender: "Node", value: tuple) -> None:  # type: ignore[type-arg]
        raw, fmt, data, nested = value
        refs = self.inward(nested)
        held = [self.manager.foreign(ref) for ref in refs]
        self.manager.note(self.peer(sender), refs)
        oid = self.manager.foreign((as_owned(raw), 0))
        where = self.manager.location(oid)
        self.manager.seal(oid, data, fmt, held)
        if where is not None:
            self.network.send(self, self.network.nodes[self.name(where[0])], "return", (raw, 1))

    def borrow(self) -> None:
        """Ids that not their owner has lent are borrowed from the owner, and returned to the lender."""
        for peer, _ in self.manager.peers():
            for raw, _ in self.manager.notes(peer):
                owner = self.name(self.manager.owner(self.manager.foreign((raw, 0))))
                if owner not in (self.node_id, self.name(peer)) and owner in self.network.nodes:
                    self.network.send(self, self.network.nodes[owner], "borrow", raw)

    def on_borrow(self, sender: "Node", raw: bytes) -> None:
        self.manager.lend(self.peer(sender), [self.manager.foreign((raw, 0))])
        self.network.send(self, sender, "lent", raw)

    def on_lent(self, sender: "Node", raw: bytes) -> None:
        owner = self.peer(sender)
        self.manager.note(owner, [(raw, owner)])
        for peer, node_id in self.manager.peers():
            if peer != owner:
                for returned in self.manager.forget_notes(peer, [raw]):
                    self.network.send(self, self.network.nodes[node_id], "return", returned)

    def on_sync(self, sender: "Node", told: tuple[list[tuple[bytes, int]], list[bytes]]) -> None:
        peer = self.peer(sender)
        noted, tasks = told
        self.manager.match_loans(peer, noted)
        self.manager.recall(peer, [raw for raw in self.manager.away(peer) if raw not in set(tasks)])
        self.manager.renew_news(peer)

    def sync(self, other: "Node") -> None:
        peer = self.peer(other)
        self.network.send(self, other, "sync", (self.manager.notes(peer), self.manager.received(peer)))


class Host(threading.Thread):
    """A worker that serves an actor, which remembers the sums that it is told; in this process.

    With an interval it saves them after so many calls, and begins with what was saved."""

    def __init__(self, node: Node, interval: int = 0, ballast_bytes: int = 0) -> None:
        super().__init__()
        self.arena = _kernel.Arena.attach(node.manager.fd)
        self.interval = interval
        self.ballast_bytes = ballast_bytes
        self.told: list[int] = []
        self.began_with: list[int] = []
        self.start()

    def run(self) -> None:
        with contextlib.suppress(_kernel.ArenaClosed):  # its node is dead
            self.serve()

    def saved(self) -> bytes:
        return b"".join(encoded(number, 8) for number in (len(self.told), *self.told)) + bytes(
            self.ballast_bytes
        )

    def serve(self) -> None:
        self.arena.register(_kernel.WORKER)
        created = self.arena.next()
        assert created is not None
        assert created[0] == _kernel.ACTOR_CREATE
        if self.interval and (saved := self.arena.last_checkpoint()) is not None:
            data = bytes(self.arena.get(saved, 0)[1])
            self.told = [decoded(data[8 * place :]) for place in range(1, decoded(data) + 1)]
            self.began_with = list(self.told)
            del saved
        self.arena.complete()
        unsaved = 0
        while (call := self.arena.next()) is not None:
            _, _, payload, deps, num_returns, _ = call
            if decoded(payload) == LEAVE:
                self.arena.checkpoint(self.saved(), RAW, leaves=True)
                self.arena.complete()
                continue
            self.told.append(decoded(payload) + sum(decoded(self.arena.get(dep, 0)[1]) for dep in deps or []))
            del deps, call
            self.arena.finish([(encoded(len(self.told)), RAW, None)] * num_returns)
            self.arena.complete()
            unsaved += 1
            if unsaved == self.interval:
                unsaved = 0
                self.arena.checkpoint(self.saved(), RAW)
        self.arena.leave()


class Network:
    """Nodes, and the messages between them."""

    def __init__(self, count: int) -> None:
        self.nodes: dict[bytes, Node] = {}
        self.links: dict[tuple[bytes, bytes], deque[tuple[str, object]]] = {}
        self.waits: list[tuple[Node, Node, bytes]] = []
        self.all = [Node(self) for _ in range(count)]
        for node in self.all:
            self.nodes[node.node_id] = node

    def send(self, sender: Node, receiver: Node, kind: str, message: object) -> None:
        self.links.setdefault((sender.node_id, receiver.node_id), deque()).append((kind, message))

    def deliver(self, sender: Node, receiver: Node) -> bool:
        link = self.links.get((sender.node_id, receiver.node_id))
        if not link:
            return False
        kind, message = link.popleft()
        handle: Callable[[Node, object], None] = getattr(receiver, f"on_{kind}")
        handle(sender, message)
        return True

    def lose(self, one: Node, other: Node) -> None:
        """The link breaks, and is made again."""
        for pair in ((one, other), (other, one)):
            self.links.pop((pair[0].node_id, pair[1].node_id), None)
        self.waits = [wait for wait in self.waits if {wait[0], wait[1]} != {one, other}]
        one.sync(other)
        other.sync(one)

    def step(self) -> bool:
        moved = False
        for node in self.nodes.values():
            node.let_go()
            moved |= node.tell_news() > 0
        for sender in self.all:
            for receiver in self.all:
                while sender is not receiver and self.deliver(sender, receiver):
                    moved = True
        waits, self.waits = self.waits, []
        for node, sender, raw in waits:
            node.on_want(sender, raw)
        return moved

    def settle(self, work: bool = True) -> None:
        """Until nothing moves any more."""
        moved = True
        while moved:
            moved = self.step()
            if work:
                for node in self.nodes.values():
                    while node.work():
                        moved = True

    def until(self, done: Callable[[], bool], patience_s: float = 20.0) -> None:
        """Messages go and come until that is so."""
        deadline_s = time.monotonic() + patience_s
        while not done():
            assert time.monotonic() < deadline_s
            self.step()

    def until_ready(self, *oids: "tuple[Node, _kernel.ObjectID]") -> None:
        self.until(lambda: all(node.driver.is_ready(oid) for node, oid in oids))

    def die(self, node: Node) -> None:
        del self.nodes[node.node_id]
        self.all.remove(node)
        self.links = {pair: link for pair, link in self.links.items() if node.node_id not in pair}
        self.waits = [wait for wait in self.waits if node not in wait[:2]]
        for other in self.all:
            for number, node_id in other.manager.peers():
                if node_id == node.node_id:
                    other.manager.bury_peer(number)
            other.manager.end_jobs()
