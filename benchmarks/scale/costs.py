"""What each step costs in CPU on this machine, found by running the real code, in microseconds.

A cost that grows with the number of nodes is a line through two sizes: `Line`. What a node manager does now
and then costs many times what it costs again and again, as others have used the caches meanwhile: `Step`.
"""

import asyncio
import gc
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any, Literal, get_args

from ray.node.cluster.head import Head, NotKept
from ray.node.cluster.scheduler import Scheduler
from ray.policy.cluster.placement import Here, Other, Queue, place
from ray.policy.cluster.views import REPEAT_MS
from ray.wire import messages
from ray.wire.connecting import connect
from ray.wire.frames import FrameReader, FrameWriter
from ray.wire.link import Link
from ray.wire.messages import Demand, Hello, Load, Message, NodeState, Resources, View
from tests.core.nodes import Network, Node
from tests.node.cluster.test_member import running
from tests.node.cluster.worlds import World
from tests.wire.running import IDENTITY, hello, node

FEW, MANY = 100, 1_000
OTHERS = 9  # nodes, of a placement decision after a pause: among many the pause does not count
CPU = 10_000
ROUNDS = 5  # the best counts: what disturbs only makes it longer
TASKS = 500
FIRST_TASKS = 30
BULK_BYTES = 1 << 20
PAUSE_S = (
    0.1  # as loops of a cluster at rest have it between two things: long enough for others to use the caches
)
SHORT_PAUSE_S = 0.02  # costs are the same after it
RARELY = 30  # how often, with a pause
LOOKS_S = 5.0  # looks are watched
HEAD = bytes(20)


@dataclass(frozen=True, slots=True)
class Line:
    """`fixed + each * n`."""

    fixed: float
    each: float

    def __call__(self, n: float) -> float:
        return self.fixed + self.each * n

    def __sub__(self, part: "Line") -> "Line":
        """The rest of it."""
        return Line(max(0.0, self.fixed - part.fixed), max(0.0, self.each - part.each))


@dataclass(frozen=True, slots=True)
class Step:
    """What is done once after a pause, and again at once."""

    first: float
    again: float

    def __call__(self, times: int = 1) -> float:
        return self.first + self.again * (times - 1) if times else 0.0


StepName = Literal["look", "load_in", "task_out", "task_in", "result_out", "result_in"]


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds of CPU, and bytes where the name says so."""

    look: Step  # one look of an idle node manager: tables read, a Load made
    load_in: Step  # at the head
    published: Line  # at the head, once a round: who of n is told what
    view_made: Line  # at the head, once for all that are told the same; of n nodes in it, like what follows
    view_encoded: Line  # the same
    view_decoded: Line  # at each node
    view_taken: Line  # at each node: the scheduler's picture of those in it
    view_confirmed: Line  # at each node: of all n that it knows, whom nothing is said of
    placed: Line  # a placement decision among n others, after a pause
    sent: float  # by a decision, a node that is sent something
    ticked: Line  # the head's look at all members
    turn: float  # of an event loop that waited: woken, its memory cold
    rung: float  # the bell's thread, once
    frame_out: float
    frame_in: float
    byte_out: float
    byte_in: float
    task_out: Step  # at home: sent, encoded
    task_in: Step  # where it runs: decoded, entered
    result_out: Step  # where it ran: news, encoded
    result_in: Step  # at home: decoded, sealed, given back
    view_bytes: Line

    def rows(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, rows: dict[str, Any]) -> "Costs":
        """Raises TypeError for rows of another version."""
        steps = get_args(StepName)
        for name in steps:
            if not isinstance(rows.get(name), dict):
                raise TypeError(f"{name} has one figure, not two")
        return cls(**{name: _read_cost(cost) for name, cost in rows.items()})


def _read_cost(cost: Any) -> Any:
    if not isinstance(cost, dict):
        return cost
    return Line(**cost) if "each" in cost else Step(**cost)


def measured(rounds: int = ROUNDS) -> Costs:
    """Blocks for some seconds."""
    views = {n: _view(n) for n in (FEW, MANY)}
    load = _load(1)
    body = _encoded(load)
    task_out, task_in, result_out, result_in = _tasks(rounds)
    link = asyncio.run(_link(rounds))
    head = _head(FEW)
    known = list(head.members)

    def load_in(turn: int) -> None:
        head.on_load(known[turn % FEW], messages.decode(body)[0], turn)  # type: ignore[arg-type]

    return Costs(
        look=asyncio.run(_look(rounds, link[2])),
        load_in=Step(_seldom(load_in), _best(load_in, 2_000, rounds)),
        published=_line(lambda n: _published(n, rounds)),
        view_made=_line(lambda n: _made(n, rounds)),
        view_encoded=_line(lambda n: _best(lambda _: _framed(views[n]), 50, rounds)),
        view_decoded=_line(lambda n: _decoded(views[n], rounds)),
        view_taken=_line(lambda n: _taken(views[n], rounds)) - _line(lambda n: _confirmed(views[n], rounds)),
        view_confirmed=_line(lambda n: _confirmed(views[n], rounds)),
        placed=_placed(rounds),
        sent=_sent_more(rounds),
        ticked=_line(lambda n: _ticked(n, rounds)),
        turn=link[2],
        rung=_rung(),
        frame_out=link[0],
        frame_in=link[0],
        byte_out=link[1],
        byte_in=link[1],
        task_out=task_out,
        task_in=task_in,
        result_out=result_out,
        result_in=result_in,
        view_bytes=_line(lambda n: float(len(_encoded(views[n])))),
    )


def node_id(number: int) -> bytes:
    return number.to_bytes(20, "big")


def _best(step: Callable[[int], object], times: int, rounds: int) -> float:
    """CPU of one step: the best round's mean."""
    best = float("inf")
    for _ in range(rounds):
        gc.collect()
        began = time.thread_time_ns()
        for turn in range(times):
            step(turn)
        best = min(best, (time.thread_time_ns() - began) / times / 1000)
    return best


def _seldom(step: Callable[[int], object]) -> float:
    """CPU of one step after a pause; the mean."""
    spent_ns = 0
    for turn in range(RARELY):
        time.sleep(SHORT_PAUSE_S)
        began = time.thread_time_ns()
        step(turn)
        spent_ns += time.thread_time_ns() - began
    return spent_ns / RARELY / 1000


def _line(cost: Callable[[int], float]) -> Line:
    few, many = cost(FEW), cost(MANY)
    each = (many - few) / (MANY - FEW)
    return Line(max(0.0, few - each * FEW), each)


def _load(number: int) -> Load:
    amounts = Resources(4 * CPU)
    return Load(number, amounts, Resources(CPU), [Demand(Resources(CPU), 3)], 1 << 30, 1 << 20)


def _view(nodes: int) -> View:
    states = [
        NodeState(node_id(n), f"10.0.{n >> 8}.{n & 255}:47000", Resources(4 * CPU), Resources(CPU), 3)
        for n in range(nodes)
    ]
    return View(1, states)


def _encoded(message: Message) -> bytes:
    return bytes(_framed(message)[4:])


def _framed(message: Message) -> bytearray:
    writer = FrameWriter()
    writer.add(message)
    (frame,) = writer.take()
    return frame


def _read_frame(frame: bytearray) -> None:
    reader = FrameReader()
    reader.feed(frame)
    assert reader.next_frame()


def _head(nodes: int) -> Head:
    def nothing(*_: object) -> None:
        return

    deeds: Any = SimpleNamespace(
        send=nothing, send_view=nothing, want_link=nothing, learn=nothing, bury=nothing
    )
    head = Head(HEAD, [], 0, deeds, NotKept())
    for number in range(1, nodes + 1):
        other = node_id(number)
        head.on_link_up(other, Hello(1, "1", other, b"", "10.0.0.1:47000", False, Resources(CPU)), 0)
        head.on_load(other, _load(1), 0)
    return head


def _published(nodes: int, rounds: int) -> float:
    """In a round that has nothing to say."""
    board = _head(nodes).board
    board.publish(0, lambda _: True)
    return _best(lambda turn: board.publish(REPEAT_MS * (turn + 1), lambda _: True), 20, rounds)


def _made(nodes: int, rounds: int) -> float:
    head = _head(nodes)
    return _best(lambda _: head.view(), 20, rounds)


def _decoded(view: View, rounds: int) -> float:
    frame = _framed(view)
    return _best(lambda _: _read_frame(frame), 50, rounds)


def _ticked(nodes: int, rounds: int) -> float:
    """Without the view, and with nobody silent."""
    authority = _head(nodes).authority
    return _best(lambda _: authority.tick(0), 20, rounds)


async def _look(rounds: int, turn_us: float) -> Step:
    """All that a node manager does at each, of a node that is alone; the first with the timers that it waits
    by, beyond a turn of its loop."""
    async with running([Node(Network(0), cpus=1)]) as (member,):
        await asyncio.sleep(1.0)
        before, began = member.loads._number, time.thread_time_ns()
        await asyncio.sleep(LOOKS_S)
        spent_us = (time.thread_time_ns() - began) / 1000
        first = spent_us / (member.loads._number - before) - turn_us
        return Step(max(0.0, first), _best(lambda _: member._tick(), 500, rounds))


def _rung() -> float:
    """Of the thread that waits for an arena's news, and rings its node manager's loop."""
    home, _ = World(2).members
    function = home.node.driver.put((1).to_bytes(8, "little").ljust(16, b"."), 2)
    bell = os.eventfd(0)
    home.arena.listen(bell)
    spent_ns = 0
    try:
        for number in range(RARELY):
            home.arena.news(TASKS, 0)
            home.arena.arm()
            time.sleep(PAUSE_S / 5)
            before_ns = time.process_time_ns() - time.thread_time_ns()
            home.node.submit(function, number)  # nobody is there for it
            os.eventfd_read(bell)
            spent_ns += time.process_time_ns() - time.thread_time_ns() - before_ns
    finally:
        home.arena.listen(None)
        os.close(bell)
    return spent_ns / RARELY / 1000


def _taken(view: View, rounds: int) -> float:
    """What a member does with it: who is new, who is gone, the scheduler's picture."""
    arena: Any = None
    scheduler = Scheduler(arena, HEAD, arena, bool, bool, bool)
    present = {state.node_id for state in view.nodes}
    addresses: dict[bytes, str] = {}

    def take(_: int) -> None:
        now = {state.node_id for state in view.nodes}
        for state in view.nodes:
            addresses[state.node_id] = state.address
        assert not present - now
        scheduler.on_view(view, 0.0)

    return _best(take, 20, rounds)


def _confirmed(view: View, rounds: int) -> float:
    """What a view without a change is to a scheduler that knows these."""
    arena: Any = None
    scheduler = Scheduler(arena, HEAD, arena, bool, bool, bool)
    scheduler.on_view(view, 0.0)
    nothing = View(2, [], [], 1)
    return _best(lambda _: scheduler.on_view(nothing, 0.0), 20, rounds)


def _placed(rounds: int) -> Line:
    line = _line(lambda n: _best(_decision(n, busy=True), 10, rounds))
    return Line(max(0.0, _seldom(_decision(OTHERS, busy=True)) - line.each * OTHERS), line.each)


def _sent_more(rounds: int) -> float:
    free, busy = (_best(_decision(FEW, busy), 10, rounds) for busy in (False, True))
    return max(0.0, (free - busy) / FEW)


def _decision(nodes: int, busy: bool) -> Callable[[int], None]:
    """As the scheduler comes to it: what it knows of the others, put together, and the policy."""
    total = Resources(4 * CPU)
    free = Resources() if busy else total
    known = {node_id(n): NodeState(node_id(n), "", total, free, 0) for n in range(1, nodes + 1)}
    queues = [Queue(1, (CPU, 0, 0), 10 * nodes, 250.0)]

    def decide(turn: int) -> None:
        others = [
            Other(
                each,
                (state.total.cpu, state.total.gpu, state.total.custom),
                (state.free.cpu, state.free.gpu, state.free.custom),
                state.ready,
                10,
                4 if busy else 0,
                0,
                draining=state.draining,
            )
            for each, state in known.items()
        ]
        place(Here(HEAD, (CPU, 0, 0), (0, 0, 0), turn=turn), queues, others)

    return decide


def _tasks(rounds: int) -> list[Step]:
    """Through two real arenas and exchanges: out, in, result out, result in; one task. The first of each is
    what one message takes, and again what each of many takes, answers included."""
    again = [float("inf")] * 4
    for _ in range(rounds):
        world = World(2)
        spans = _journey(world, _function(world), TASKS, world.settle)
        again = [min(one, span / TASKS) for one, span in zip(again, spans, strict=True)]
    world = World(2)
    function = _function(world)
    _journey(world, function, 1, world.deliver)  # the function goes along with the first
    journeys = [_journey(world, function, 1, world.deliver, SHORT_PAUSE_S) for _ in range(FIRST_TASKS)]
    first = [sum(spans) / FIRST_TASKS for spans in zip(*journeys, strict=True)]
    return [Step(*both) for both in zip(first, again, strict=True)]


def _function(world: World) -> Any:
    return world.members[0].node.driver.put((1).to_bytes(8, "little").ljust(16, b"."), 2)


def _journey(
    world: World, function: Any, tasks: int, deliver: Callable[[], object], pause_s: float = 0.0
) -> list[float]:
    """What so many tasks take of each of the four, with a pause before each."""
    home, away = world.members
    held = [home.node.submit(function, 1, size=16) for _ in range(tasks)]

    def looks() -> None:
        while away.look():
            pass

    def spent(step: Callable[[], object]) -> float:
        time.sleep(pause_s)
        began = time.thread_time_ns()
        step()
        return (time.thread_time_ns() - began) / 1000

    there = [spent(lambda: home.offload(away, tasks)), spent(deliver)]
    world.settle()
    while away.node.work():  # which is the worker's
        pass
    back = [spent(looks), spent(deliver)]
    world.settle()
    assert all(home.node.driver.is_ready(oid) for (oid,) in held)
    return there + back


async def _link(rounds: int) -> tuple[float, float, float]:
    """CPU of one end of a link for a small frame, for a byte of a large one, and of waking up for it."""
    async with node() as listening:
        link = await connect(listening.listener.address, IDENTITY, hello(1))
        other = (await listening.link()).link
        small = min([await _sent(link, other, messages.Ping(1), 500) for _ in range(rounds)])
        large = messages.Results(
            [messages.Result(bytes(20), 0, bytes(60_000), 60_000, []) for _ in range(BULK_BYTES // 60_000)]
        )
        bulk = min([await _sent(link, other, large, 20) for _ in range(rounds)])
        rare = min(
            [await _sent(link, other, messages.Ping(1), RARELY, PAUSE_S) for _ in range(min(rounds, 2))]
        )
        link.abort("measured")
    return small / 2, max(0.0, (bulk - small) / 2 / BULK_BYTES), max(0.0, (rare - small) / 2)


async def _sent(link: Link, other: Link, message: Message, times: int, pause_s: float = 0.0) -> float:
    """CPU of both ends, a message, one after the other; with a pause, of waking up twice as well."""
    arrived = asyncio.Event()
    other._on_messages = lambda _, received: arrived.set()  # whoever began the link hears nothing of these
    began = time.thread_time_ns()
    for _ in range(times):
        arrived.clear()
        if pause_s:
            await asyncio.sleep(pause_s)
        link.send(message)
        await arrived.wait()
    return (time.thread_time_ns() - began) / times / 1000
