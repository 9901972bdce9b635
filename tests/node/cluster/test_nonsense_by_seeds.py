"""Whatever other nodes say, this node's arena stays whole, and the dead leave no loan and no task behind.

The real exchange on a real arena, without links: what is said names objects, tasks, actors and nodes that
there are, by seeds. `tests/cluster/test_nonsense.py` says such things to whole node managers.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable

import msgspec
import pytest

from ray import _kernel
from ray.node.cluster.exchange import Exchange
from ray.node.cluster.ids import SERVED_INDEX
from ray.wire import messages
from ray.wire.messages import Bye, Hello, Message, Result, Run, Sync
from tests.chaos.attack import times
from tests.core.nodes import RAW, Network, Node, encoded
from tests.wire.damage import LENGTH_BYTES, nonsense
from tests.wire.samples import NODE, OBJECT, SAMPLES, TASK

SEEDS = times(full=500, short=30)
STEPS = 400
SAID = [each for each in SAMPLES if not isinstance(each, Hello | Bye)]
PEERS = 3
HOSTS = 3
ACTOR_INDEX = bytes((0, 0, 0, 0xC0))  # how the id of an actor ends
RETURNS = 50  # at most, of a task
SMALL = 1 << 16
PATIENCE_S = 20.0


class Host(threading.Thread):
    """A worker, which does what there is: returns, fails, saves states, leaves."""

    def __init__(self, node: Node, seed: int) -> None:
        super().__init__()
        self.arena = _kernel.Arena.attach(node.manager.fd)
        self.random = random.Random(seed)
        self.start()

    def run(self) -> None:
        with contextlib.suppress(_kernel.ArenaClosed):
            self.arena.register(_kernel.WORKER)
            while (work := self.arena.next()) is not None:
                self._do(work[0], work[4])
            self.arena.leave()

    def _do(self, kind: int, num_returns: int) -> None:
        arena, chance = self.arena, self.random.random()
        is_call = kind == _kernel.ACTOR_CALL
        if is_call and not num_returns and chance < 0.3:
            arena.checkpoint(encoded(1), RAW, leaves=True)
        elif num_returns and chance < 0.1:
            arena.fail(b"failed", 100)
        elif num_returns:
            nested = [arena.put(encoded(2), RAW)] if chance < 0.5 else None
            arena.finish([(encoded(3, self.random.choice((16, 5_000))), RAW, nested)] * num_returns)
        arena.complete()
        if is_call and chance > 0.6:
            arena.checkpoint(encoded(4), RAW)


class Play:
    """One node, and what others may say to it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.node = Node(Network(0), heap=64 << 20)
        self.arena = self.node.manager
        self.exchange = Exchange(self.arena, self.node.node_id, self, self, self)
        self.hosts: list[Host] = []
        self.peers = [self.random.randbytes(20) for _ in range(PEERS)]
        self.dead: list[bytes] = []
        self.kept: list[list[_kernel.ObjectID]] = []
        self.held: list[_kernel.ObjectID] = []  # by the driver
        self.actors: list[_kernel.ObjectID] = []
        self.tasks = [self.random.randbytes(16) for _ in range(4)]  # that others send, and know
        self.function = self.node.driver.put(encoded(1), RAW)
        for peer in self.peers:
            self.link(peer)

    # --- as a network, as transfers and as jobs ---

    def send(self, node: bytes, message: Message) -> None:
        """What this node says names what others know."""
        if isinstance(message, Run):
            self.tasks = [*self.tasks, *(task.id for task in message.tasks)][-12:]

    def want_link(self, node: bytes) -> None:
        return

    def pull(
        self, source: bytes, value: Result, oid: _kernel.ObjectID, nested: list[_kernel.ObjectID]
    ) -> None:
        block = self.arena.allocate(value.size) if 0 < value.size <= SMALL else None
        self.exchange.wanted.on_pulled(value, oid, nested, block)

    def describe(self, root: bytes) -> messages.Job:
        return messages.Job(root, self.node.node_id, [], False)

    def ended(self) -> None:
        return

    def learn(self, number: int, job: messages.Job) -> None:
        return

    # --- what happens ---

    def link(self, peer: bytes) -> None:
        choose = self.random
        self.exchange.on_link_up(peer)
        noted = [(self.an_object(), 1) for _ in range(choose.randrange(3))]
        tasks = [choose.choice(self.tasks) for _ in range(choose.randrange(3))]
        self.hear(peer, Sync(noted, tasks, [self.an_object()], True))

    def hear(self, peer: bytes, message: Message) -> None:
        """As `ray.node.cluster.member` does: what can't be acted upon ends the link."""
        try:
            self.exchange.on_message(peer, message)
        except _kernel.ArenaCorrupt:
            raise
        except Exception:
            self.exchange.on_link_down(peer)
            self.exchange.on_link_up(peer)
            self.exchange.on_message(peer, Sync([], [], [], True))

    def an_object(self) -> bytes:
        choose = self.random
        index = choose.choice((bytes(4), b"\1\0\0\0", ACTOR_INDEX, SERVED_INDEX))
        ids = [oid.binary() for oid in (*self.held, *self.actors)]
        ids += [choose.choice(self.tasks) + index, self.node.root_id, OBJECT]
        return choose.choice(ids)

    def a_node(self) -> bytes:
        return self.random.choice([self.node.node_id, *self.peers, *self.dead[-1:]])

    def say(self) -> None:
        choose = self.random
        sample = msgspec.msgpack.encode(choose.choice(SAID))
        for stands_for, one in ((OBJECT, self.an_object), (NODE, self.a_node)):
            sample = sample.replace(stands_for, one())
        sample = sample.replace(TASK, choose.choice(self.tasks))
        (said,) = messages.decode(b"\x91" + sample)
        if choose.random() < 0.5:
            ids = [self.an_object(), self.a_node(), choose.choice(self.tasks)]
            (said,) = messages.decode(nonsense(choose, [said], ids)[LENGTH_BYTES:])
        if isinstance(said, Run):
            said = Run([self.varied(task) for task in said.tasks])
        self.hear(choose.choice(self.peers), said)

    def varied(self, task: messages.Task) -> messages.Task:
        """The same id is no promise of the same number of results."""
        num_returns = self.random.choice((task.num_returns, self.random.randrange(5)))
        return msgspec.structs.replace(task, num_returns=min(num_returns, RETURNS))

    def relink(self) -> None:
        peer = self.random.choice(self.peers)
        self.exchange.on_link_down(peer)
        self.link(peer)

    def die(self) -> None:
        peer = self.random.choice(self.peers)
        self.peers.remove(peer)
        self.dead.append(peer)
        self.kept.append(self.exchange.on_death(peer, "a node"))
        self.peers.append(self.random.randbytes(20))
        self.link(self.peers[-1])

    def submit(self) -> None:
        self.held += self.node.submit(self.function, 1, self.held[-1:], num_returns=self.random.randrange(3))

    def create(self) -> None:
        self.actors.append(self.node.create(self.function, interval=self.random.choice((0, 3))))

    def call(self) -> None:
        if self.actors:
            actor = self.random.choice(self.actors)
            result = self.node.call(actor, 1, num_returns=self.random.randrange(2))
            self.held += [result] if isinstance(result, _kernel.ObjectID) else []

    def offload(self) -> None:
        for shape, *_ in self.arena.queues():
            self.exchange.tasks.send(self.random.choice(self.peers), shape, 2)

    def drop(self) -> None:
        for owned in self.held, self.actors:
            if owned:
                owned.pop(self.random.randrange(len(owned)))

    def work(self) -> None:
        self.hosts = [host for host in self.hosts if host.is_alive()]
        if len(self.hosts) < HOSTS:
            self.hosts.append(Host(self.node, self.random.randrange(1 << 32)))

    def look(self) -> None:
        self.node.let_go()
        self.exchange.on_news(self.arena.news(1000, 0))
        self.exchange.tick()

    def step(self) -> None:
        rare: list[Callable[[], object]] = [self.relink, self.die]
        own = [self.submit, self.create, self.call, self.call, self.offload, self.drop, self.work]
        chance = self.random.random()
        if chance < 0.7:
            self.say()
        elif chance < 0.75:
            self.random.choice(rare)()
        elif chance < 0.9:
            self.random.choice(own)()
        else:
            self.look()

    def check(self) -> None:
        """What threads are about to do may be missing for a moment."""
        deadline_s = time.monotonic() + PATIENCE_S
        while problems := self.arena.check():
            assert time.monotonic() < deadline_s, problems

    def is_over(self) -> bool:
        """Values may stay: nonsense has some contain their own ids."""
        self.look()
        self.work()
        self.arena.end_jobs()
        counts = self.node.counts()
        return not counts["loans"] and not counts["tasks"]

    def end(self) -> None:
        """All others die, those too that never were, as the head will say of them; and the driver ends."""
        for peer in list(self.exchange.peers.by_node):
            self.exchange.on_death(peer, "a node")
        self.kept.clear()
        self.held.clear()
        self.actors.clear()
        self.exchange.jobs.functions.clear()
        del self.function
        self.node.driver.leave()

    def close(self) -> None:
        self.arena.shut()
        for host in self.hosts:
            host.join()


@pytest.mark.timeout(times(full=900, short=120))
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")  # of workers
def test_seeds() -> None:
    for seed in range(SEEDS):
        play = Play(seed)
        try:
            for _ in range(STEPS):
                play.step()
                play.check()
            play.end()
            deadline_s = time.monotonic() + PATIENCE_S
            while not play.is_over():
                assert time.monotonic() < deadline_s, play.node.counts()
            play.check()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        finally:
            play.close()
