import array
import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ray import _kernel
from ray.control_store.server import random_port
from ray.session import admission, handshake, listener, record
from ray.session.found import find_sessions
from ray.session.listener import Listener
from ray.session.names import socket_name

LOOK_MS = 20  # for callers that take too long


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


def test_a_refusal_is_an_error(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ours.send(handshake.REFUSED)
    with pytest.raises(handshake.OwnUserOnlyError):
        handshake.receive(theirs)


def test_descriptors_of_an_unknown_protocol_are_closed(
    pair: tuple[socket.socket, socket.socket], memory: int
) -> None:
    ours, theirs = pair
    before = len(os.listdir("/proc/self/fd"))
    ours.sendmsg([b"other"], handshake.rights(memory))
    with pytest.raises(handshake.PeerRefusedError):
        handshake.receive(theirs)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_release_that_is_not_understood_is_named(
    pair: tuple[socket.socket, socket.socket], memory: int
) -> None:
    ours, theirs = pair
    before = len(os.listdir("/proc/self/fd"))
    ours.sendmsg([b"ray-arena-99 9.9.9"], handshake.rights(memory))
    with pytest.raises(handshake.IncompatibleError, match=r"raycore 9\.9\.9") as raised:
        handshake.receive(theirs)
    assert raised.value.release == "9.9.9"
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_protocol_changes_with_what_it_stands_for() -> None:
    """Whoever changes the layout or the record changes the protocol, and then this line."""
    assert (handshake.PROTOCOL, _kernel.LAYOUT_VERSION, record.VERSION) == (5, 5, 2)


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

    def __init__(self, fd: int, port: int, **more: Any) -> None:
        self._poller = select.poll()
        self.listener = Listener(self._poller, fd, "1.2.3", **more)
        assert self.listener.bind(port)
        self.listener.open()
        self._ending, self._end = socket.socketpair()
        self._poller.register(self._ending, select.POLLIN)
        self._thread = threading.Thread(target=self._loop)
        self._thread.start()

    def _loop(self) -> None:
        while self._ending.fileno() not in (ready := dict(self._poller.poll(LOOK_MS))):
            self.listener.serve(set(ready), time.monotonic_ns() // 1_000_000)

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


def test_the_descriptor_arrives_and_is_the_same_memory(serving: int, memory: int) -> None:
    with handshake.connect(serving, 2.0) as admitted:
        assert os.pread(admitted.arena_fd, 6, 0) == b"shared"
        assert os.fstat(admitted.arena_fd).st_ino == os.fstat(memory).st_ino
        assert not os.get_inheritable(admitted.arena_fd)
        assert admitted.spill_fd == -1
        assert not admitted.is_other


def test_many_may_join_at_once(serving: int) -> None:
    found: list[handshake.Admitted] = []
    threads = [
        threading.Thread(target=lambda: found.append(handshake.connect(serving, 5.0))) for _ in range(100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 100
    assert len({os.fstat(each.arena_fd).st_ino for each in found}) == 1
    for each in found:
        each.close()


def test_a_peer_that_says_and_reads_nothing_holds_nobody_up(serving: int) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as mute:
        mute.connect("\0" + socket_name(os.getuid(), serving)[1:])
        handshake.connect(serving, 5.0).close()


def test_a_name_can_be_held_once(serving: int, memory: int) -> None:
    second = Listener(select.poll(), memory, "1.2.3")
    assert not second.bind(serving)
    second.close()


def test_owners_are_found_by_port(serving: int) -> None:
    assert handshake.open_sockets(port=serving) == [(os.getuid(), serving, 0)]
    assert handshake.open_sockets(port=1) == []


def test_a_session_that_cannot_be_looked_into_is_named(
    serving: int, capsys: pytest.CaptureFixture[str]
) -> None:
    find_sessions()
    said = capsys.readouterr().err
    assert f"the session with port {serving} is left out: this descriptor is not an arena" in said


def test_nobody_listens() -> None:
    with pytest.raises(ConnectionRefusedError):
        handshake.connect(1, 2.0)


def test_a_keeper_that_does_not_answer_is_waited_for_only_so_long(memory: int) -> None:
    port = random_port()
    stopped = Listener(select.poll(), memory, "1.2.3")
    assert stopped.bind(port)
    with pytest.raises(TimeoutError):
        handshake.connect(port, 0.2)
    stopped.close()


# --- drivers of other users, by the messages alone ---

KEY = bytes(range(32))
OTHER = 12_345  # for whose keeper a listener is taken


class Other:
    """A driver that speaks to the keeper of another user, word for word."""

    def __init__(self, port: int, key: bytes = KEY) -> None:
        self.name = socket_name(OTHER, port)
        self.key = key
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(5.0)
        self.socket.connect(handshake.address_of(self.name))
        self.challenge = self.socket.recv(handshake.MESSAGE_BYTES).split(b" ")

    def transcript(self, own_uid: int, own: bytes) -> admission.Transcript:
        return admission.Transcript(self.name, own_uid, OTHER, bytes.fromhex(self.challenge[2].decode()), own)

    def prove(self, own_uid: int | None = None, own: bytes = bytes(32)) -> list[bytes]:
        """The keeper's answer, without the descriptors."""
        transcript = self.transcript(os.getuid() if own_uid is None else own_uid, own)
        shown = transcript.proof(self.key, admission.DRIVER)
        self.socket.send(b"%b %b %b" % (handshake.PROOF, own.hex().encode(), shown.hex().encode()))
        return self.socket.recv(handshake.MESSAGE_BYTES).split(b" ")

    def is_let_go(self) -> bool:
        try:
            return self.socket.recv(handshake.MESSAGE_BYTES) == b""
        except ConnectionResetError:
            return True

    def __enter__(self) -> "Other":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


@pytest.fixture
def cluster(memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a keeper of another user that admits who knows KEY."""
    port = random_port()
    monkeypatch.setattr(os, "getuid", lambda: OTHER)
    server = Serving(memory, port, key=KEY, logs=str(tmp_path))
    monkeypatch.undo()
    yield port
    server.stop()


def test_both_sides_prove_themselves(cluster: int) -> None:
    with Other(cluster) as other:
        assert other.challenge[:2] == [handshake.CHALLENGE, b"1.2.3"]
        magic, release, shown = other.prove()
        assert (magic, release) == (handshake.MAGIC, b"1.2.3")
        transcript = other.transcript(os.getuid(), bytes(32))
        assert transcript.is_proven(KEY, admission.KEEPER, bytes.fromhex(shown.decode()))
        assert not transcript.is_proven(KEY, admission.DRIVER, bytes.fromhex(shown.decode()))


def test_a_wrong_key_or_what_was_said_to_another_user_is_refused(
    cluster: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, uid in ((bytes(32), os.getuid()), (KEY, 777)):
        with Other(cluster, key) as other:
            assert other.prove(own_uid=uid) == [handshake.WRONG_TOKEN]
            assert other.is_let_go()
    said = capsys.readouterr().err
    assert said.count("was refused") == 1  # once for each user
    assert "ray status" in said


@pytest.mark.parametrize(
    "message",
    [
        b"x",
        handshake.PROOF,
        handshake.PROOF + b" 00 00",
        handshake.PROOF + b" xy zz",
        b"\xff" * 10_000,
        handshake.OUTPUT + b" 1",
    ],
)
def test_what_is_no_proof_ends_the_handshake(cluster: int, message: bytes) -> None:
    with Other(cluster) as other:
        other.socket.send(message)
        assert other.is_let_go() or other.is_let_go()  # perhaps with a word before
    with Other(cluster) as another:
        assert another.prove()[0] == handshake.MAGIC


def test_unfinished_handshakes_are_few(cluster: int) -> None:
    with contextlib.ExitStack() as opened:
        mute = [opened.enter_context(Other(cluster)) for _ in range(2 * listener.PENDING_MAX)]
        assert all(each.is_let_go() for each in mute[: listener.PENDING_MAX])
        assert opened.enter_context(Other(cluster)).prove()[0] == handshake.MAGIC


def test_unfinished_handshakes_are_short(cluster: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "PENDING_MS", 50)
    with Other(cluster) as mute:
        assert mute.is_let_go()


def test_a_keeper_that_does_not_know_the_token_gets_no_trust(memory: int) -> None:
    """It may hand out what it likes: nothing of it is used, and nothing stays open."""
    port = random_port()
    uid = os.getuid()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as fake:
        fake.bind(handshake.address_of(socket_name(uid, port)))
        fake.listen(1)

        def answer() -> None:
            connection, _ = fake.accept()
            with connection:
                connection.send(b"%b 1.2.3 %b" % (handshake.CHALLENGE, bytes(32).hex().encode()))
                connection.recv(handshake.MESSAGE_BYTES)
                made_up = bytes(32).hex().encode()
                connection.sendmsg([b"%b 1.2.3 %b" % (handshake.MAGIC, made_up)], handshake.rights(memory))

        thread = threading.Thread(target=answer)
        thread.start()
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(handshake.TokenRefusedError):
            handshake.connect_as_other(uid, port, KEY, 2.0)
        thread.join()
        assert len(os.listdir("/proc/self/fd")) <= before
