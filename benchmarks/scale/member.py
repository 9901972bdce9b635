"""A node of the simulation: `ray.node.cluster.member.Member` without sockets, clock and threads.

Scheduler, placement, head, membership and exchange are the real ones; what is written anew here is the order
in which a member calls them, and how long it sleeps. The figures of that are the real module's.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from benchmarks.scale.costs import Costs
from benchmarks.scale.loop import HOP_US, Cores, Loop, Wires
from benchmarks.scale.workload import Sizes
from ray import _kernel
from ray.control_store.nodes import NodeEntry
from ray.node.cluster.bell import CAN_WAIT, NEWS_AT_ONCE, PAUSE_S
from ray.node.cluster.exchange import Exchange
from ray.node.cluster.loads import LOAD_REPEAT_MS
from ray.node.cluster.member import BUSY_TICK_S, IDLE_TICK_S
from ray.node.cluster.network import FIRST_RETRY_S, LAST_RETRY_S
from ray.node.cluster.node_table import LOOK_S  # between two looks whether the store is there
from ray.node.cluster.scheduler import Scheduler
from ray.node.cluster.standing import Standing
from ray.node.journal_copier import WAIT_MS  # between two looks at the place reached
from ray.policy.cluster.views import LEAST_MS, least_ms
from ray.wire import messages
from ray.wire.messages import Demand, Hello, Load, Resources, View
from tests.simulator.model_arena import ModelArena, SentTask, State, Task, Value
from tests.simulator.world import World

CPU = 10_000
SHAPE = 1
BUSY_TICK_US, IDLE_TICK_US = round(1e6 * BUSY_TICK_S), round(1e6 * IDLE_TICK_S)
PAUSE_US = round(1e6 * PAUSE_S)
FIRST_RETRY_US, LAST_RETRY_US = round(1e6 * FIRST_RETRY_S), round(1e6 * LAST_RETRY_S)
NEWS_US = 50  # from the arena's bell to the event loop: a wake-up
STORE_US = 1_000  # until the control store has an entry, and the head knows
ANSWER_US = 150  # until it has answered
WAKE_US = 70  # of a worker
TASK_US = 200  # beside what a task does itself: arguments, its end, the sleep's own delay
STORE_BYTES = 64 << 20
GRACE_US = 15_000_000
BOOT_MS = 86_400_000  # of a machine that is up for a day: numbers of a usual size


def size_of(message: messages.Message) -> int:
    body = bytearray()
    messages.append(message, body)
    return len(body)


class Table:
    """The head's entries in the control store, as far as a head waits for it."""

    def __init__(self, later: Callable[[int, Callable[[], None]], None]) -> None:
        self._later = later
        self.writes = 0

    def write(self, node: bytes, entry: NodeEntry, done: Callable[[], None] | None = None) -> None:
        self.writes += 1
        if done is not None:
            self._later(STORE_US, done)


class Tables(ModelArena):
    """A node's tables with CPUs, workers that take tasks as they come, and queues that a scheduler reads."""

    def __init__(
        self, name: bytes, cpus: int, lengths_us: dict[bytes, int], sizes: Sizes, world: World
    ) -> None:
        """`lengths_us` is how long each task runs, for all nodes of a run."""
        super().__init__(name[4:])  # the root of its driver
        self.cpus = cpus
        self.busy = 0
        self.lengths_us = lengths_us
        self.sizes = sizes
        self.world = world
        self.queued = False  # something became ready that nobody took
        self.ended = 0
        self.begun_us: int | None = None  # when the first task began since this was reset
        self.start_us = 0.0  # CPU of a worker that has rested, until it runs what it was woken for
        self.cores: Cores | None = None  # that this takes
        self.on_ready = self._pushed
        self._wakes = False

    def load(self, ready: int) -> tuple[Resources, Resources, list[Demand]]:
        demands = [Demand(Resources(CPU), ready)] if ready else []
        return Resources(CPU * self.cpus), Resources(CPU * (self.cpus - self.busy)), demands

    # --- a function is no argument: peers name it by itself ---

    def send_tasks(self, peer: int, shape: int, count: int) -> list[SentTask]:
        return [
            (raw, job, deps[0], payload, [], nested, returns, CPU, 0, 0, *rest)
            for raw, job, _, payload, deps, nested, returns, _, _, _, *rest in super().send_tasks(
                peer, shape, count
            )
        ]

    def receive_tasks(self, peer: int, tasks: Iterable[SentTask]) -> None:
        super().receive_tasks(peer, [(*task[:4], [task[2]], *task[5:]) for task in tasks if task[2]])

    # --- as the scheduler reads them ---

    def queues(self) -> list[tuple[int, int, int, int, int, bool]]:
        ready = self.ready()
        return [(SHAPE, CPU, 0, 0, ready, True)] if ready else []

    def resources(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        return (CPU * self.cpus, 0, 0), (CPU * (self.cpus - self.busy), 0, 0)

    def waiting(self) -> bool:
        """For this node's workers, whosever they are."""
        return any(task.state is State.READY for task in self._tasks.values())

    # --- workers ---

    def _pushed(self) -> None:
        """News if there are fewer workers than tasks for them: one that is woken has taken nothing yet."""
        if not self.queued and self.ready() > self.cpus - self.busy:
            self.queued = True
            self.on_news()
        if not self._wakes:
            self._wakes = True
            self.world.after(WAKE_US, self._woken)

    def _woken(self) -> None:
        self._wakes = False
        self._take_all(self.start_us)

    def _take_all(self, start_us: float = 0.0) -> None:
        while self.busy < self.cpus and (task := self.take()) is not None:
            self.busy += 1
            delay_us = self.cores.take(start_us) if self.cores is not None and start_us else 0
            if self.begun_us is None:
                self.begun_us = self.world.now_us + delay_us
            self.world.after(delay_us + self.lengths_us[task.id] + TASK_US, self._finisher(task))

    def _finisher(self, task: Task) -> Callable[[], None]:
        def finish() -> None:
            if self._closed:
                return
            self.busy -= 1
            if self.finish(task, [Value(0, bytes(self.sizes.result))]):
                self.ended += 1
            self._take_all()

        return finish

    def give(self, function: Any, length_us: int) -> Any:
        """The driver submits a task."""
        key = b"task" + len(self.lengths_us).to_bytes(12, "big")
        self.lengths_us[key] = length_us
        (oid,) = self.submit(key, self.driver_job, [function], [], 1, 3)
        self._tasks[key].payload = bytes(self.sizes.payload)
        return oid


class NoTransfers:
    """Results are small here."""

    def pull(self, source: bytes, value: messages.Result, oid: Any, nested: list[Any]) -> None:
        raise AssertionError(f"{value.size} bytes are no small result")


class Jobs:
    """The one driver's, as other nodes know it."""

    def __init__(self, node: bytes, tables: Tables) -> None:
        self.node = node
        self.tables = tables

    def describe(self, root: bytes) -> messages.Job:
        return messages.Job(root, self.node, [], False)

    def learn(self, number: int, job: messages.Job) -> None:
        return

    def ended(self) -> None:
        self.tables.end_jobs()


class Member(Loop):
    """One node manager with its node."""

    def __init__(
        self,
        name: bytes,
        head: bytes,
        tables: Tables,
        world: World,
        wires: Wires,
        cores: Cores,
        costs: Costs,
    ) -> None:
        super().__init__(name, world, wires, cores, costs)
        self.tables = tables
        arena: Any = tables
        self.exchange = self.exchange_of(arena)
        self.scheduler = Scheduler(
            arena, name, self.exchange.tasks, self.is_linked, self.want_link, lambda _: None
        )
        self.table = Table(self.later) if name == head else None
        self.standing = Standing(name, [], self, self, self.boot_ms, self.table, 0)
        self.head = self.standing.head
        self.fenced = 0  # how often
        self.deaths: list[tuple[bytes, int]] = []  # that this node has heard of, and when
        self.views = 0
        self._view_number = 0  # of the last that it has made, as the head
        self._is_to_place = False
        self._linked: set[bytes] = set()
        self._connecting: set[bytes] = set()
        self._last_load: Load | None = None
        self._load_sent_ms = 0
        self._number = 0
        self._stirred = False
        self._sleep = 0  # counts the waits that a stir ends
        self._looked_us = -BUSY_TICK_US
        self._sleeps = False
        self._armed = True
        self._rung = False
        self._heard_ms: dict[bytes, int] = {}
        self.rejoins = False
        tables.on_news = self._news_soon
        wires.living.add(name)
        if self.head is not None:
            self.head.on_link_up(name, self.hello(), 0)

    def exchange_of(self, arena: Any) -> Exchange:
        network: Any = self
        return Exchange(arena, self.name, network, NoTransfers(), Jobs(self.name, self.tables))

    def start(self) -> None:
        """Nobody's timers go together."""
        self.later(self.world.random.randrange(IDLE_TICK_US), self._look)
        for pause_us in (round(1e6 * LOOK_S), 1_000 * WAIT_MS) if self.head is not None else ():
            self.later(self.world.random.randrange(pause_us), partial(self._ask_store, pause_us))

    def _ask_store(self, pause_us: int) -> None:
        """Two turns of the loop; what a client of it costs is added afterwards (`compared.rows`)."""
        answer_us = round(self.costs.turn) + ANSWER_US  # it is asked at the end of this turn
        self.later(answer_us, lambda: self.later(pause_us, partial(self._ask_store, pause_us)))

    def hello(self) -> Hello:
        total, _, _ = self.tables.load(0)
        return Hello(
            messages.PROTOCOL, "0.2.0", self.name, b"", "127.0.0.1:40000", self.head is not None, total
        )

    # --- links ---

    def is_linked(self, node: bytes) -> bool:
        return node in self._linked

    def link(self, node: bytes, hello: Hello) -> None:
        """Is up from now on."""
        self._linked.add(node)
        if self.standing.on_link_up(node, hello, False, self.now_ms()):
            self.exchange.on_link_up(node)
        self._stir()

    def send(self, node: bytes, message: messages.Message) -> None:
        if node not in self._linked:
            return
        if isinstance(message, messages.Run):
            self.spend("task_out", len(message.tasks))
        elif isinstance(message, messages.Results):
            self.spend("result_out", len(message.results))
        self.queue(node, message, size_of(message))

    def send_all(self, nodes: list[bytes], message: messages.Message) -> None:
        """A View: made and encoded once."""
        size = size_of(message)
        if isinstance(message, View):
            self._made(message)
        for node in nodes:
            if node in self._linked:
                self.queue(node, message, size)

    def _made(self, view: View) -> None:
        assert self.head is not None
        if view.number != self._view_number:
            self._view_number = view.number
            self.spent_us += self.costs.published(len(self.head.members))
        self.spent_us += self.costs.view_made(len(view.nodes)) + self.costs.view_encoded(len(view.nodes))

    def want_link(self, node: bytes) -> None:
        """To a node that is dead: refused, again and again. Others are linked already, or never."""
        if node not in self.wires.living and node not in self._connecting:
            self._connecting.add(node)
            self._connect(node, FIRST_RETRY_US)

    def _connect(self, node: bytes, retry_us: int) -> None:
        def refused() -> None:
            if node not in self._connecting or node in self.wires.silent:
                return
            self.standing.on_refused(node, self.now_ms())
            self._stir()
            if node in self._connecting:
                again_us = min(2 * retry_us, LAST_RETRY_US)
                self.world.after(retry_us, lambda: self._connect(node, again_us))

        self.later(2 * HOP_US, refused)

    def lose(self, node: bytes) -> None:
        """The link to a node that was killed is reset."""

        def down() -> None:
            self._linked.discard(node)
            self._stir()
            self.exchange.on_link_down(node)
            self.standing.on_link_down(node, self.now_ms())

        if node in self._linked:
            self.later(HOP_US, down)

    def kill(self) -> None:
        self.alive = False
        self.tables.close()
        self.wires.living.discard(self.name)
        del self.wires.ends[self.name]

    # --- as a standing's deeds ---

    def boot_ms(self) -> int:
        return BOOT_MS + self.now_ms()

    def linked(self) -> list[bytes]:
        return list(self._linked)

    def silent_ms(self, node: bytes) -> int | None:
        return self.now_ms() - self._heard_ms.get(node, 0) if node in self._linked else None

    def close_link(self, node: bytes, reason: str) -> None:
        self.lose(node)

    def go_around(self, node: bytes, ways: list[bytes]) -> None:
        return

    def learn(self, node: bytes, address: str) -> None:
        return

    def on_view(self, view: View) -> None:
        self.views += 1
        self.spent_us += self.costs.view_taken(len(view.nodes))
        self.spent_us += self.costs.view_confirmed(len(self.scheduler.others))
        self.exchange.peers.want_links()
        self.scheduler.on_view(view, self.now_ms())
        self._place()

    def bury(self, node: bytes, reason: str) -> None:
        self._connecting.discard(node)
        self._linked.discard(node)
        self.deaths.append((node, self.world.now_us))
        kept = self.exchange.on_death(node)
        self.world.after(GRACE_US, kept.clear)

    def fence(self, reason: str) -> None:
        self.fenced += 1

    def resume(self) -> None:
        return

    def rejoin(self) -> None:
        """It would begin anew; here it stays away."""
        self.rejoins = True

    # --- news ---

    def _news_soon(self) -> None:
        """The bell; it rings once, and again when it is armed."""
        if self._armed:
            self._armed = False
            self.later(NEWS_US, self._take_news)
        else:
            self._rung = True

    def _arm(self) -> None:
        self._armed = True
        if self._rung:
            self._rung = False
            self._news_soon()

    def _take_news(self) -> None:
        self._rung = False
        self.spent_us += self.costs.rung
        self._stir()
        queued, self.tables.queued = self.tables.queued, False
        news: Any = self.tables.news(NEWS_AT_ONCE, 0)
        self.exchange.on_news(news)
        kinds = {item[0] for item in news} | ({_kernel.NEWS_QUEUED} if queued else set())
        if queued:
            self._place()
        if len(news) == NEWS_AT_ONCE:
            self._rung = True
        elif _kernel.NEWS_DONE in kinds and kinds <= CAN_WAIT and self.tables.waiting():
            self.world.after(PAUSE_US, self._arm)
            return
        self._arm()

    # --- messages ---

    def on_messages(self, source: bytes, received: list[Any]) -> None:
        finished: list[bytes] = []
        now = self.now_ms()
        self._heard_ms[source] = now
        for message in received:
            self._take_in(message)
            if isinstance(message, Load):
                if self.head is not None and self.head.on_load(source, message, now):
                    self._stir()
            elif self.standing.on_message(source, message, now) or not self.standing.may_act():
                continue
            else:
                finished += self.exchange.on_message(source, message)
                self._stir()
        if finished:
            self.scheduler.on_finished(source, finished, now)
            self._place_soon()

    def _place_soon(self) -> None:
        """Once in a turn."""
        if not self._is_to_place:
            self._is_to_place = True
            self.post(self._place_now)

    def _place_now(self) -> None:
        self._is_to_place = False
        self._place()

    def _take_in(self, message: Any) -> None:
        if isinstance(message, messages.Run):
            self.spend("task_in", len(message.tasks))
        elif isinstance(message, messages.Results):
            self.spend("result_in", len(message.results))
        elif isinstance(message, Load):
            self.spend("load_in")
        else:
            self.spent_us += self.costs.view_decoded(len(message.nodes)) if isinstance(message, View) else 1.0

    # --- the loop of looks ---

    def _stir(self) -> None:
        self._stirred = True
        if self._sleeps:
            self._sleeps = False
            self._sleep += 1
            self.later(max(0, self._looked_us + BUSY_TICK_US - self.world.now_us), self._look)

    def _look(self) -> None:
        self._stirred = False
        self._looked_us = self.world.now_us
        if self._tick():
            self.later(BUSY_TICK_US, self._look)
            return
        self._sleeps = not self._stirred
        if self._stirred:
            self.later(BUSY_TICK_US, self._look)
            return
        self._sleep += 1
        turn = self._sleep

        def timed_out() -> None:
            if self._sleep == turn and self._sleeps:
                self._sleeps = False
                self._look()

        self.later(IDLE_TICK_US, timed_out)

    def _tick(self) -> bool:
        now = self.now_ms()
        self.spend("look")
        self.exchange.tick()
        ready = self.tables.ready()
        total, free, demands = self.tables.load(ready)
        self._number += 1
        load = Load(self._number, total, free, demands, STORE_BYTES, 0)
        last = self._last_load
        changed = last is None or (last.free, last.demands) != (load.free, load.demands)
        if demands:
            self._place()
        is_busy = changed or bool(demands) or self.scheduler.has_tasks_away
        if self.head is not None:
            self._last_load = load
            self.head.on_load(self.name, load, now)
            self.spent_us += self.costs.ticked(len(self.head.members))
            self.standing.tick(now)
            return is_busy or self.head.has_changed
        self.standing.tick(now)
        head = self.standing.head_node
        if head is None or not self.is_linked(head):
            return True
        begins = last is None or bool(last.demands) != bool(load.demands)
        since_ms = now - self._load_sent_ms
        pause_ms = least_ms(len(self.standing.present)) - LEAST_MS
        if begins or since_ms >= LOAD_REPEAT_MS or (changed and since_ms >= pause_ms):
            self._last_load = load
            self._load_sent_ms = now
            self.send(head, load)
        return is_busy

    def _place(self) -> None:
        if not self.tables.queues():
            return
        self.traffic.placements += 1
        self.spent_us += self.costs.placed(len(self.scheduler.others))
        self.scheduler.place(self.now_ms())
