"""Whatever a node's port is sent by one that has the token, the node goes on, and so does the work on it.

`make chaos` sends a million frames to each port.
"""

import random
import resource
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import ray
from ray.testing import LocalCluster, LocalNode
from ray.wire.connecting import open_socket
from ray.wire.frames import FrameReader, FrameWriter
from ray.wire.identity import LINK, Identity
from ray.wire.messages import (
    PROTOCOL,
    Hello,
    Kill,
    Leaving,
    Load,
    Message,
    Ping,
    Pong,
    Resources,
    Run,
    Sync,
    View,
)
from tests.chaos.attack import times
from tests.cluster.conftest import MakeCluster
from tests.cluster.events import PATIENCE_MS, PATIENCE_S, log_of_manager, manager_of, wait_until_spread
from tests.wire.damage import damaged, nonsense
from tests.wire.samples import NODE, OBJECT, SAMPLES, TASK

FRAMES = times(1_000_000, 4_000)  # to each port
AT_ONCE = 200  # before the sender asks whether they were read
PREPARED = 20_000  # different frames, of which each turn takes some
STRANGE_IDS = 50  # of each length
STRANGE_ADDRESS = "127.0.0.99:1"  # where nobody listens
# Who says these may say them: who is dead, and what its own node can do.
NO_NONSENSE = (Load, View)
RENAMED_S = 0.25  # who has left is dead to the others after that, and must come as another
STUCK_S = 60.0  # one message may bring fifty tasks with 65,536 results each, and they are all made
GROWN_MIB = 128
LOG_BYTES = 1 << 20
LOG_SHOWN = 4_000  # characters, of one that reads no more


def ends_a_link(message: Message) -> bool:
    """Whether most nonsense made of it does: it says goodbye, or what it names is no actor."""
    return isinstance(message, Kill | Leaving) or (
        isinstance(message, Run) and message.tasks[0].actor is not None
    )


def frame(*said: Message) -> bytes:
    writer = FrameWriter()
    for message in said:
        writer.add(message)
    return b"".join(map(bytes, writer.take()))


@contextmanager
def connected(node: LocalNode, name: bytes) -> Iterator[ssl.SSLSocket]:
    """A member of that name, for as long as the others take it for one."""
    identity = Identity(node.record.cluster_identity.encode())
    with open_socket(node.record.link_address, identity, LINK, STUCK_S) as connection:
        hello = Hello(PROTOCOL, "1", name, b"", STRANGE_ADDRESS, False, Resources())
        connection.sendall(frame(hello) + frame(Sync([], [], [], True)))
        yield connection


def is_read(connection: ssl.SSLSocket) -> bool:
    """Whether all that was sent was read, and the connection is still there."""
    connection.sendall(frame(Ping(1 << 40)))
    reader = FrameReader()
    while data := connection.recv(1 << 16):
        reader.feed(data)
        while (found := reader.next_frame()) is not None:
            if Pong(1 << 40) in found:
                return True
    return False


def end(connection: ssl.SSLSocket) -> None:
    """Says no more, and waits until the other side has read all and ends it too."""
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(1 << 16):
        continue


def send(
    node: LocalNode, choose: random.Random, frames: list[bytes], last: Callable[[], bytes]
) -> tuple[int, int]:
    """At least as many frames as there shall be; how many were read, over how many connections. The last of
    each connection is of another kind: it is likely to end it."""
    count = connections = 0
    name = b""
    renamed_s = 0.0
    read_s = time.monotonic()
    while count < FRAMES:
        if time.monotonic() - read_s > STUCK_S:
            pytest.fail(f"manager {manager_of(node)} reads no more: {log_of_manager(node)[-LOG_SHOWN:]}")
        if time.monotonic() - renamed_s > RENAMED_S:
            name, renamed_s = choose.randbytes(20), time.monotonic()
        connections += 1
        try:
            with connected(node, name) as connection:
                for _ in range(choose.randrange(8)):
                    connection.sendall(b"".join(choose.choices(frames, k=AT_ONCE)))
                    if not is_read(connection):
                        break
                    count += AT_ONCE
                    read_s = time.monotonic()
                connection.sendall(last())
                end(connection)
                count += 1
        except (OSError, ssl.SSLError):
            continue
    return count, connections


def resident_mib(pid: int) -> float:
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / (1 << 20)


@ray.remote
def square(number: int) -> int:
    return number * number


@pytest.mark.timeout(3_600 if FRAMES > 10_000 else 120)
def test_nonsense_at_every_port(make_cluster: MakeCluster) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    cluster: LocalCluster = make_cluster(2)
    wait_until_spread(cluster.nodes)
    usable = [each for each in SAMPLES[1:] if not isinstance(each, NO_NONSENSE)]
    ending = [each for each in usable if ends_a_link(each)]
    samples = [each for each in usable if each not in ending]
    ids = [NODE, OBJECT, TASK, bytes(20), bytes(16), *(bytes.fromhex(node.node_id) for node in cluster.nodes)]
    ids += [choose.randbytes(length) for length in (16, 20) for _ in range(STRANGE_IDS)]
    frames = [nonsense(choose, samples, ids) for _ in range(min(PREPARED, FRAMES))]

    def last() -> bytes:
        if choose.random() < 0.2:
            return nonsense(choose, ending, ids)
        return damaged(choose, choose.choice(frames))

    managers = [manager_of(node) for node in cluster.nodes]
    for node, manager in zip(cluster.nodes, managers, strict=True):
        assert manager is not None
        before = resident_mib(manager)
        began_s = time.monotonic()
        count, connections = send(node, choose, frames, last)
        took_s = time.monotonic() - began_s
        grown = resident_mib(manager) - before
        print(f"{count:,} frames over {connections:,} connections in {took_s:.1f} s, {grown:.1f} MiB more")
        assert grown < GROWN_MIB
    assert [manager_of(node) for node in cluster.nodes] == managers
    assert all(len(log_of_manager(node)) < LOG_BYTES + FRAMES for node in cluster.nodes)
    results = [square.remote(number) for number in range(500)]
    assert ray.get(results, timeout=PATIENCE_MS) == [number**2 for number in range(500)]
    wait_until_spread(cluster.nodes)
    began_s = time.monotonic()
    cluster.add_node()
    assert time.monotonic() - began_s < PATIENCE_S
    wait_until_spread(cluster.nodes)
    assert ray.error_info() == []
