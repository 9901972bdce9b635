"""Which of several heads has an operator's database, and when another can."""

import asyncio
import dataclasses
import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from ray.control_store import fitness, hold, schema
from ray.control_store.fitness import StoreSession
from ray.control_store.hold import Hold, Holder, TakenError
from ray.control_store.link import Link
from ray.control_store.url import StoreUrl
from ray.errors import InitError
from tests.control_store.operators import HOST, operators_server
from tests.control_store.running import RunningServer


@pytest.fixture
def url(tmp_path: Path) -> Iterator[StoreUrl]:
    with operators_server(tmp_path) as port:
        yield StoreUrl(HOST, port, 0, False, "", "")


@pytest.fixture
def store(url: StoreUrl) -> Iterator[StoreSession]:
    with StoreSession.opened(url) as session:
        yield session


def here(address: str = "") -> Holder:
    return Holder.of(secrets.token_hex(4), os.getpid(), address)


def elsewhere(address: str = "") -> Holder:
    """On a machine of which nothing is known here."""
    return dataclasses.replace(here(address), host="another", place="another boot")


def nobody() -> str:
    """An address where nobody answers."""
    with socket.create_server((HOST, 0)) as closed:
        return f"{HOST}:{closed.getsockname()[1]}"


def lease(store: StoreSession, holder: Holder, left_ms: int) -> None:
    store.ask("SET", schema.HEAD, holder.dump(), "PX", str(left_ms))


def test_one_of_many_at_once_has_it(url: StoreUrl) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(8) as threads:
        sessions = [stack.enter_context(StoreSession.opened(url)) for _ in range(8)]
        heads = [here() for _ in sessions]
        found = list(
            threads.map(lambda pair: hold.take(pair[0].ask, pair[1]), zip(sessions, heads, strict=True))
        )
        assert found.count(None) == 1
        (winner,) = [own for own, other in zip(heads, found, strict=True) if other is None]
        assert {other for other in found if other is not None} == {winner}


def test_it_is_let_go_by_its_holder_only(store: StoreSession) -> None:
    own = here()
    assert hold.take(store.ask, own) is None
    hold.let_go(store.ask, here())
    assert store.ask("EXISTS", schema.HEAD) == 1
    hold.let_go(store.ask, own)
    assert hold.take(store.ask, here()) is None


def test_a_process_of_this_machine_that_has_ended_holds_nothing(store: StoreSession) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        dead = Holder.of("dead", process.pid, nobody())
        assert hold.take(store.ask, dead) is None
        assert hold.take(store.ask, here()) == dead
        process.kill()
    assert hold.take(store.ask, here()) is None


def test_a_head_elsewhere_that_answers_keeps_it(store: StoreSession) -> None:
    with socket.create_server((HOST, 0)) as listening:
        holder = elsewhere(f"{HOST}:{listening.getsockname()[1]}")
        lease(store, holder, hold.LEASE_MS)
        assert hold.take(store.ask, here()) == holder


def test_a_head_elsewhere_that_is_being_started_keeps_it(store: StoreSession) -> None:
    lease(store, elsewhere(), hold.START_MS)
    other = hold.take(store.ask, here())
    assert str(other) == f"process {os.getpid()} on another, just starting"


def test_the_end_of_one_elsewhere_that_nobody_renews_is_waited_for(store: StoreSession) -> None:
    lease(store, elsewhere(nobody()), 600)
    began_s = time.monotonic()
    assert hold.take(store.ask, here()) is None
    assert time.monotonic() - began_s >= 0.5


def test_one_elsewhere_that_is_renewed_keeps_it_though_it_can_not_be_reached(
    url: StoreUrl, store: StoreSession
) -> None:
    holder = elsewhere(nobody())
    lease(store, holder, 2_000)
    over = threading.Event()

    def renew() -> None:
        with StoreSession.opened(url) as session:
            while not over.wait(0.4):
                lease(session, holder, 2_000)

    with ThreadPoolExecutor(1) as thread:
        renewing = thread.submit(renew)
        try:
            assert hold.take(store.ask, here()) == holder
        finally:
            over.set()
        renewing.result()


def test_a_check_takes_it_and_names_who_has_it(url: StoreUrl, store: StoreSession) -> None:
    own = here()
    fitness.check(url, own)
    with pytest.raises(InitError, match=f"another cluster uses its database 0, process {os.getpid()} on "):
        fitness.check(url, here())
    fitness.hand_over(url, Holder.of(own.name, os.getpid(), "10.0.0.1:6379"))
    with pytest.raises(InitError, match=r"with its head at 10\.0\.0\.1:6379"):
        fitness.check(url, here())
    fitness.let_go(url, own)
    fitness.check(url, here())


def test_a_check_that_fails_later_lets_it_go(url: StoreUrl, store: StoreSession) -> None:
    store.ask("SET", "ray:tracer", "17")
    with pytest.raises(InitError, match="such as ray:tracer"):
        fitness.check(url, here())
    assert store.ask("EXISTS", schema.HEAD) == 0


def test_a_running_head_renews_it_and_finds_out_that_it_is_anothers(redis_server: RunningServer) -> None:
    own, other = here(), here("10.0.0.1:6379")

    async def talk() -> None:
        link, stranger = (Link(redis_server.address, redis_server.password) for _ in range(2))
        await Hold(link, own).insist()
        assert 0 < await stranger.ask("PTTL", schema.HEAD) <= hold.LEASE_MS
        await stranger.ask("SET", schema.HEAD, own.dump(), "PX", 500)
        await Hold(link, own).insist()
        assert await stranger.ask("PTTL", schema.HEAD) > 500
        await stranger.ask("SET", schema.HEAD, other.dump())
        with pytest.raises(TakenError, match=r"with its head at 10\.0\.0\.1:6379"):
            await Hold(link, own).insist()
        assert await stranger.ask("GET", schema.HEAD) == other.dump().encode()
        await link.close()
        await stranger.close()

    asyncio.run(talk())
