"""Links: what is said arrives, in order and in batches, and both sides learn how it ended."""

import asyncio
import socket

import pytest

from ray.errors import IncompatiblePeerError, PeerUnreachableError
from ray.wire import link as link_module
from ray.wire.connecting import connect, open_channel
from ray.wire.frames import MessageTooLargeError
from ray.wire.identity import LINK
from ray.wire.link import EndKind
from ray.wire.listener import Listener
from ray.wire.messages import PROTOCOL, Ping, Pong, Return, Want
from tests.wire.running import IDENTITY, Heard, hello, node, run


def test_each_side_knows_the_other_and_messages_go_both_ways() -> None:
    async def main() -> None:
        async with node() as there:
            ours = Heard(await connect(there.listener.address, IDENTITY, hello(1)))
            theirs = await there.link()
            assert ours.link.peer == hello(2)
            assert theirs.link.peer == hello(1)
            ours.link.send(Ping(7))
            assert await theirs.count(1) == [Ping(7)]
            theirs.link.send(Pong(7))
            assert await ours.count(1) == [Pong(7)]
            ours.link.abort("the test is over")

    run(main())


def test_a_listening_socket_that_is_held_elsewhere_goes_from_one_listener_to_the_next() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as held:
            first, second = (
                Listener(IDENTITY, {}),
                Listener(IDENTITY, {LINK: lambda channel: channel.close()}),
            )
            address = first.take_over(held.dup())
            first.close()
            # Nobody accepts, and yet it is not refused: it waits for the next.
            connecting = asyncio.create_task(open_channel(address, IDENTITY, LINK))
            await asyncio.sleep(0)
            assert second.take_over(held.dup()) == address
            (await connecting).close()
            second.close()

    run(main())


def test_what_is_sent_in_one_turn_goes_in_one_frame_and_in_order() -> None:
    async def main() -> None:
        async with node() as there:
            ours = Heard(await connect(there.listener.address, IDENTITY, hello()))
            theirs = await there.link()
            for number in range(2000):
                ours.link.send(Ping(number))
            assert ours.link.backlog_bytes > 2000
            assert await theirs.count(2000) == [Ping(number) for number in range(2000)]
            assert theirs.batches == 1
            assert ours.link.backlog_bytes == 0
            ours.link.abort("the test is over")

    run(main())


def test_what_comes_before_the_receiver_has_begun_is_kept() -> None:
    async def main() -> None:
        async with node() as there:
            link = await connect(there.listener.address, IDENTITY, hello())
            theirs = await there.link()
            theirs.link.send(Ping(1))
            theirs.link.close("enough")
            assert await theirs.ended() == (EndKind.OURS, "enough")
            ours = Heard(link)
            assert await ours.ended() == (EndKind.THEIRS, "enough")
            assert ours.messages == [Ping(1)]

    run(main())


def test_a_large_message_arrives_and_one_too_large_is_refused_where_it_is_sent() -> None:
    large = Want([bytes([number % 256]) * 20 for number in range(500_000)])
    too_large = Return([(bytes(20), 1)] * 800_000)

    async def main() -> None:
        async with node() as there:
            ours = Heard(await connect(there.listener.address, IDENTITY, hello()))
            theirs = await there.link()
            ours.link.send(Ping(1))
            with pytest.raises(MessageTooLargeError, match=r"Return has .* in parts"):
                ours.link.send(too_large)
            ours.link.send(large)
            ours.link.send(Ping(2))
            assert await theirs.count(3) == [Ping(1), large, Ping(2)]
            ours.link.abort("the test is over")

    run(main())


def test_a_reason_is_told_and_later_messages_are_dropped() -> None:
    async def main() -> None:
        async with node() as there:
            ours = Heard(await connect(there.listener.address, IDENTITY, hello()))
            theirs = await there.link()
            ours.link.send(Ping(1))
            ours.link.close("draining")
            ours.link.send(Ping(2))
            assert await theirs.ended() == (EndKind.THEIRS, "draining")
            assert theirs.messages == [Ping(1)]
            assert await ours.ended() == (EndKind.OURS, "draining")
            assert str(ours.end) == "closed by this side: draining"

    run(main())


def test_a_connection_that_breaks_ends_both_sides() -> None:
    async def main() -> None:
        async with node() as there:
            ours = Heard(await connect(there.listener.address, IDENTITY, hello()))
            theirs = await there.link()
            ours.link._connection.shutdown(socket.SHUT_RDWR)  # as when the process is killed
            assert (await theirs.ended()).kind is EndKind.BROKEN
            assert (await ours.ended()).kind is EndKind.BROKEN

    run(main())


def test_two_protocols_part_and_both_sides_name_both_versions() -> None:
    async def main() -> None:
        async with node(said=hello(2, PROTOCOL + 1, "0.9.0")) as there:
            with pytest.raises(IncompatiblePeerError, match=r"0\.9\.0 .*this is raycore 0\.2\.0") as ours:
                await connect(there.listener.address, IDENTITY, hello(1))
            assert (ours.value.theirs, ours.value.their_protocol) == ("0.9.0", PROTOCOL + 1)
            theirs = await there.errors.get()
            assert isinstance(theirs, IncompatiblePeerError)
            assert (theirs.theirs, theirs.ours) == ("0.2.0", "0.9.0")

    run(main())


def test_a_slow_reader_costs_bounded_memory_and_then_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "MAX_BACKLOG_BYTES", 4 << 20)
    part = Want([bytes(20)] * 5000)

    async def main() -> None:
        async with node() as there:
            link = await connect(there.listener.address, IDENTITY, hello())  # never begun, so never read
            theirs = await there.link()
            while theirs.end is None:
                theirs.link.send(part)
                assert theirs.link.backlog_bytes < 6 << 20
                await asyncio.sleep(0)
            assert theirs.end.kind is EndKind.OVERFLOW
            assert theirs.link.backlog_bytes == 0
            link.abort("the test is over")

    run(main())


def test_a_peer_that_says_nothing_is_given_up() -> None:
    async def main() -> None:
        silent = socket.create_server(("127.0.0.1", 0))
        with silent:
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(PeerUnreachableError, match=r"no answer in 0\.05 s"):
                await connect(address, IDENTITY, hello(), 0.05)

    run(main())
