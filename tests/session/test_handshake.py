import array
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from ray import _kernel
from ray.control_store.server import random_port
from ray.session import handshake, record
from ray.session.names import socket_name


@pytest.fixture
def memory() -> Iterator[int]:
    fd = os.memfd_create("handshake")
    os.write(fd, b"shared")
    yield fd
    os.close(fd)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_the_descriptor_arrives_and_is_the_same_memory(
    pair: tuple[socket.socket, socket.socket], memory: int
) -> None:
    ours, theirs = pair
    handshake.answer(ours, memory, os.getuid(), "1.2.3")
    fd = handshake.receive(theirs)
    try:
        assert os.pread(fd, 6, 0) == b"shared"
        assert os.fstat(fd).st_ino == os.fstat(memory).st_ino
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_a_peer_of_another_user_gets_no_descriptor(
    pair: tuple[socket.socket, socket.socket], memory: int
) -> None:
    ours, theirs = pair
    handshake.answer(ours, memory, os.getuid() + 1, "1.2.3")
    message, ancillary, _, _ = theirs.recvmsg(100, 100)
    assert message == handshake.REFUSED
    assert ancillary == []


def test_a_refusal_is_an_error(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ours.send(handshake.REFUSED)
    with pytest.raises(handshake.PeerRefusedError):
        handshake.receive(theirs)


def test_descriptors_of_an_unknown_protocol_are_closed(
    pair: tuple[socket.socket, socket.socket], memory: int
) -> None:
    ours, theirs = pair
    before = len(os.listdir("/proc/self/fd"))
    ours.sendmsg([b"other"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memory]))])
    with pytest.raises(handshake.PeerRefusedError):
        handshake.receive(theirs)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_release_that_is_not_understood_is_named(
    pair: tuple[socket.socket, socket.socket], memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pair
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as later:
        later.setattr(handshake, "MAGIC", b"ray-arena-99")
        handshake.answer(ours, memory, os.getuid(), "9.9.9")
    with pytest.raises(handshake.IncompatibleError, match=r"raycore 9\.9\.9") as raised:
        handshake.receive(theirs)
    assert raised.value.release == "9.9.9"
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_protocol_changes_with_what_it_stands_for() -> None:
    """Whoever changes the layout or the record changes the protocol, and then this line."""
    assert (handshake.PROTOCOL, _kernel.LAYOUT_VERSION, record.VERSION) == (3, 3, 2)


def test_a_keeper_that_ends_meanwhile_counts_as_nobody(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ours.close()
    with pytest.raises(ConnectionRefusedError):
        handshake.receive(theirs)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_a_session_socket_held_by_another_user_is_not_trusted(memory: int) -> None:
    port = random_port()
    name = "\0" + socket_name(0, port)[1:]
    ready, stop = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65_534)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as impostor:
                impostor.bind(name)
                impostor.listen(1)
                os.write(ready[1], b"x")
                connection, _ = impostor.accept()
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))
                connection.sendmsg([handshake.MAGIC], [rights])
                os.read(stop[0], 1)
        finally:
            os._exit(0)
    try:
        os.read(ready[0], 1)
        with pytest.raises(handshake.PeerRefusedError, match="65534"):
            handshake.connect(port, 2.0)
    finally:
        os.write(stop[1], b"x")
        os.waitpid(child, 0)
        for fd in (*ready, *stop):
            os.close(fd)


class Serving:
    """A listener with a thread that serves it, as the keeper's loop does."""

    def __init__(self, fd: int, port: int) -> None:
        self.listener = handshake.Listener(fd, "1.2.3")
        assert self.listener.bind(port)
        self._ending, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._loop)
        self._thread.start()

    def _loop(self) -> None:
        import select

        poller = select.poll()
        poller.register(self.listener.fd, select.POLLIN)
        poller.register(self._ending, select.POLLIN)
        while self._ending.fileno() not in dict(poller.poll()):
            self.listener.serve()

    def stop(self) -> None:
        self._end.send(b"x")
        self._thread.join()
        self._end.close()
        self._ending.close()
        self.listener.close()


@pytest.fixture
def serving(memory: int) -> Iterator[int]:
    port = random_port()
    server = Serving(memory, port)
    yield port
    server.stop()


def test_many_may_join_at_once(serving: int) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(handshake.connect(serving, 5.0))) for _ in range(100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 100
    assert len({os.fstat(fd).st_ino for fd in found}) == 1
    for fd in found:
        os.close(fd)


def test_a_peer_that_says_and_reads_nothing_holds_nobody_up(serving: int) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as mute:
        mute.connect("\0" + socket_name(os.getuid(), serving)[1:])
        os.close(handshake.connect(serving, 5.0))


def test_a_name_can_be_held_once(serving: int, memory: int) -> None:
    second = handshake.Listener(memory, "1.2.3")
    assert not second.bind(serving)
    second.close()


def test_owners_are_found_by_port(serving: int) -> None:
    assert handshake.owners_of(serving) == [os.getuid()]
    assert handshake.owners_of(1) == []


def test_nobody_listens() -> None:
    with pytest.raises(ConnectionRefusedError):
        handshake.connect(1, 2.0)


def test_a_keeper_that_does_not_answer_is_waited_for_only_so_long(memory: int) -> None:
    port = random_port()
    stopped = handshake.Listener(memory, "1.2.3")
    assert stopped.bind(port)
    with pytest.raises(TimeoutError):
        handshake.connect(port, 0.2)
    stopped.close()
