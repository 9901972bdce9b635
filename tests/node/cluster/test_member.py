"""Node managers in one process, with real links: tasks and values go from one to the other."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ray import _kernel
from ray.node.cluster.member import Member
from ray.wire.identity import Identity
from ray.wire.link import End
from ray.wire.messages import Drain, Kill, Message, Ping, Pong
from ray.wire.token import ClusterToken
from tests.core.nodes import CPU, RAW, Network, Node, decoded, encoded

PATIENCE_S = 20.0
LARGE = 20 << 20


class Record:
    """What a member reads of its session's record."""

    def __init__(self, node: Node, token: ClusterToken, head_address: str) -> None:
        self.node_id = node.node_id.hex()
        self.node_ip_address = "127.0.0.1"
        self.custom_resource_name = ""
        self.cluster_identity = Identity.of(token).pem.decode()
        self.head_address = head_address
        self.control_store: list[str] = []
        self.logs = ""
        self.leaves_by_ms: int | None = None


@contextlib.asynccontextmanager
async def running(nodes: list[Node]) -> AsyncIterator[list[Member]]:
    token = ClusterToken.new()
    members: list[Member] = []
    tasks = []
    with ThreadPoolExecutor(len(nodes) + 1) as executor:
        for node in nodes:
            head = members[0].doors.listener.address if members else ""
            listening = socket.create_server(("127.0.0.1", 0))
            record = Record(node, token, head)
            member = Member(node.manager, record, "1", listening, executor, lambda: None)  # type: ignore[arg-type]
            members.append(member)
            tasks.append(asyncio.create_task(member.run()))
            while not member.doors.listener.address:
                await asyncio.sleep(0)
        try:
            yield members
        finally:
            for node in nodes:
                node.manager.shut()
            await asyncio.gather(*tasks)


async def until(condition: object) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.002)


@pytest.fixture
def nodes() -> list[Node]:
    hand = Network(0)
    return [Node(hand, cpus=1, heap=64 << 20) for _ in range(3)]


def test_tasks_that_fit_nowhere_here_run_elsewhere(nodes: list[Node]) -> None:
    async def scenario() -> None:
        async with running(nodes) as members:
            await until(lambda: all(len(member.scheduler.others) == 2 for member in members))
            a = nodes[0]
            function = a.driver.put(encoded(1), RAW)
            results = [a.submit(function, i)[0] for i in range(40)]
            done: set[Node] = set()

            def all_done() -> bool:
                for node in nodes:
                    if node.work():
                        done.add(node)
                return all(a.driver.is_ready(result) for result in results)

            await until(all_done)
            assert [decoded(a.driver.get(result, 0)[1]) for result in results] == list(range(40))
            assert done == set(nodes)

    asyncio.run(scenario())


def test_a_large_result_comes_when_it_is_wanted(nodes: list[Node]) -> None:
    async def scenario() -> None:
        async with running(nodes[:2]) as members:
            await until(lambda: all(len(member.scheduler.others) == 1 for member in members))
            a, b = nodes[:2]
            function = a.driver.put(encoded(1), RAW)
            results = [a.submit(function, 7, size=LARGE)[0] for _ in range(2)]  # one for each node
            await until(lambda: b.work())
            assert a.work()
            for result in results:
                found = asyncio.get_running_loop().run_in_executor(None, a.driver.get, result, 10_000)
                fmt, data = await found
                assert fmt == RAW
                assert len(data) == LARGE
                assert decoded(data) == 7
            del data

    asyncio.run(scenario())


def test_a_task_goes_to_where_its_large_argument_is(nodes: list[Node]) -> None:
    """It would have room here: whose worker does nothing."""

    async def scenario() -> None:
        async with running(nodes[:2]) as members:
            await until(lambda: all(len(member.scheduler.others) == 1 for member in members))
            a, b = nodes[:2]
            function = a.driver.put(encoded(1), RAW)
            both = [a.submit(function, 7, size=LARGE)[0] for _ in range(2)]  # one for each node
            await until(lambda: b.work())
            assert a.work()
            known = members[0].scheduler.others[b.node_id]
            await until(lambda: not known.ours and known.state.free.cpu == CPU and known.unreported == 0)
            (there,) = [result for result in both if not a.driver.is_ready(result)]
            result = a.submit(function, 5, [there])[0]
            await until(lambda: b.work())
            await until(lambda: a.driver.is_ready(result))
            assert decoded(a.driver.get(result, 0)[1]) == 7 + 5

    asyncio.run(scenario())


def test_what_cannot_be_acted_upon_ends_the_link_and_nothing_else(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[Message] = []
    ends: list[End] = []
    nonsense = Kill([bytes(20)])  # which is no actor

    async def scenario() -> None:
        async with running(nodes[:2]) as members:
            await until(lambda: all(len(member.scheduler.others) == 1 for member in members))
            (a, b), (here, there) = nodes[:2], members
            on_messages, on_link_down = here.on_messages, there.on_link_down
            monkeypatch.setattr(
                here, "on_messages", lambda node, said: (heard.extend(said), on_messages(node, said))
            )
            monkeypatch.setattr(
                there, "on_link_down", lambda node, end: (ends.append(end), on_link_down(node, end))
            )
            there.inbox.partners.clear()  # as if it had fenced itself: what is said of work is passed over
            for message in nonsense, Ping(77):
                here.network.send(b.node_id, message)
            await until(lambda: Pong(77) in heard)
            assert not ends
            there.inbox.partners.add(a.node_id)
            here.network.send(b.node_id, nonsense)
            await until(lambda: ends)
            assert "what it has sent can't be acted upon" in str(ends[0])
            await until(lambda: here.network.is_linked(b.node_id) and a.node_id in there.inbox.partners)
            function = a.driver.put(encoded(1), RAW)
            results = [a.submit(function, i)[0] for i in range(10)]
            await until(lambda: b.work())
            await until(lambda: (a.work(), b.work(), all(a.driver.is_ready(each) for each in results))[-1])

    asyncio.run(scenario())
    assert capsys.readouterr().err.count("this object is not an actor") == 1


def test_news_that_cannot_be_passed_on_is_told_of_again(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario() -> None:
        async with running(nodes[:2]) as members:
            await until(lambda: all(len(member.scheduler.others) == 1 for member in members))
            (a, b), there = nodes[:2], members[1]
            on_news = there.exchange.on_news
            lost = 0

            def lose_the_first(news: "list[_kernel.News]") -> None:
                nonlocal lost
                if not lost and any(item[0] == _kernel.NEWS_DONE for item in news):
                    lost += 1
                    raise AssertionError("a fault")
                on_news(news)

            monkeypatch.setattr(there.exchange, "on_news", lose_the_first)
            function = a.driver.put(encoded(1), RAW)
            results = [a.submit(function, i)[0] for i in range(10)]
            await until(lambda: b.work())
            await until(lambda: (a.work(), b.work(), all(a.driver.is_ready(each) for each in results))[-1])
            assert lost == 1

    asyncio.run(scenario())
    assert capsys.readouterr().err.count("what is new here can't be passed on") == 1


def test_only_the_head_has_a_node_leave(nodes: list[Node], monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Message] = []
    begun: list[int] = []

    async def scenario() -> None:
        async with running(nodes) as members:
            await until(lambda: all(len(member.scheduler.others) == 2 for member in members))
            (_, b, c), (head, here, there) = nodes, members
            monkeypatch.setattr(there.farewell, "begin", begun.append)
            for member in head, here:
                on_messages = member.on_messages
                monkeypatch.setattr(
                    member,
                    "on_messages",
                    lambda node, said, then=on_messages: (heard.extend(said), then(node, said)),
                )
            here.network.want_link(c.node_id)
            await until(lambda: here.network.is_linked(c.node_id) and b.node_id in there.inbox.partners)
            for message in Drain(c.node_id, 1), Ping(77):
                here.network.send(c.node_id, message)
            await until(lambda: Pong(77) in heard)
            for message in Drain(b.node_id, 2), Drain(c.node_id, 3), Ping(78):
                head.network.send(c.node_id, message)
            await until(lambda: Pong(78) in heard)

    asyncio.run(scenario())
    assert begun == [3]
