"""What a joining node asks of a head, and heads that other machines may reach."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import ray
from ray.control_store.server import random_port
from ray.errors import InitError, RayConnectionError, WrongTokenError
from ray.session import ports
from ray.session.addresses import LOOPBACK, Address
from ray.session.head_link import nodes_of
from ray.session.heads import find_head
from ray.session.launch import KeeperHandle
from ray.session.options import SessionOptions
from ray.session.record import SessionRecord
from ray.session.standalone import start_head, start_node
from ray.testing import LocalCluster
from ray.wire.token import ClusterToken

WAIT_MS = 10_000


@pytest.fixture
def outside() -> str:
    """An address of this machine that others could reach."""
    try:
        host = ports.source_address("198.51.100.1")
    except OSError:
        pytest.skip("this machine has no address but loopback")
    if ports.is_loopback(host):
        pytest.skip("this machine has no address but loopback")
    return host


def options(host: str) -> SessionOptions:
    return SessionOptions.from_init(
        node_ip_address=host, num_cpus=1, object_store_memory=16 << 20, config={"connect_ms": WAIT_MS}
    )


@contextmanager
def ended(started: tuple[KeeperHandle, SessionRecord]) -> Iterator[SessionRecord]:
    keeper, record = started
    try:
        yield record
    finally:
        keeper.end(WAIT_MS)


def test_a_head_on_loopback_is_asked_at_its_control_store() -> None:
    with LocalCluster() as cluster:
        address = Address.parse(cluster.address)
        record = cluster.head.record
        found = find_head(address, ClusterToken.parse(record.cluster_token), WAIT_MS)
        assert found.link_address == record.link_address
        assert found.control_store == [cluster.address]
        with pytest.raises(WrongTokenError):
            find_head(address, ClusterToken.new(), WAIT_MS)


def test_a_head_that_others_reach_has_one_port_there(outside: str) -> None:
    with ended(start_head(options(outside), ports.ANY_PORT)) as head:
        address = Address.parse(head.redis_address)
        assert address.host == outside
        assert head.link_address == head.redis_address
        assert head.control_store == [f"{LOOPBACK}:{address.port}"]
        # The control store itself is not reachable from outside: what listens there speaks TLS only.
        with socket.create_connection((outside, address.port), WAIT_MS / 1000) as probe:
            probe.sendall(b"PING\r\n")
            assert not probe.recv(64).startswith((b"-", b"+"))
        ray.init(redis_address=head.redis_address)
        assert ray.get(ray.remote(lambda: 42).remote()) == 42
        ray.shutdown()
        with pytest.raises(WrongTokenError):
            find_head(address, ClusterToken.new(), WAIT_MS)
        with ended(start_node(options(outside), address)) as node:
            assert node.redis_address == head.redis_address
            assert node.head_address == head.link_address
            assert node.link_address.startswith(f"{outside}:")
            assert node.control_store == []


def test_loopback_and_other_addresses_don_t_meet(outside: str) -> None:
    with LocalCluster() as cluster, pytest.raises(InitError, match="loopback"):
        start_node(options(outside), Address.parse(cluster.address))


def test_two_ports_of_a_head_that_others_reach(outside: str) -> None:
    with pytest.raises(InitError, match="--redis-port"):
        start_head(options(outside), ports.ANY_PORT, link_port=random_port())


def test_what_is_no_control_store() -> None:
    def answer(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1_000)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        server.listen()
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        with pytest.raises(RayConnectionError, match="no control store"):
            find_head(Address(LOOPBACK, server.getsockname()[1]), ClusterToken.new(), WAIT_MS)
        thread.join()


def test_a_head_that_was_named_is_looked_up_whenever_it_is_called() -> None:
    with LocalCluster() as cluster:
        host, port = cluster.address.split(":")
        assert host == LOOPBACK
        place = Address.parse(f"localhost:{port}")
        with ended(start_node(options("127.0.0.2"), place)) as record:
            assert record.head_address == cluster.head.record.link_address.replace(LOOPBACK, "localhost")
            assert len(asyncio.run(nodes_of(record))) == 2


def test_a_node_that_has_been_started_is_a_member() -> None:
    """So nobody is told that the cluster lacks what it has."""
    with LocalCluster() as cluster:
        for number in range(2, 6):
            cluster.add_node()
            assert len(asyncio.run(nodes_of(cluster.head.record))) == number
