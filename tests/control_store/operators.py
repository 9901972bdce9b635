"""A server as an operator has it: with users, databases and settings of its own."""

import asyncio
import contextlib
import datetime
import os
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from ray.control_store import server
from ray.control_store.fitness import StoreSession
from ray.control_store.url import StoreUrl
from ray.errors import RayConnectionError
from tests.api.programs import wait_for

HOST = "127.0.0.1"
PASSWORD = "pass/word:with@all%of them"
QUOTED = "pass%2Fword%3Awith%40all%25of%20them"
ENOUGH = "~ray:* +@all -@dangerous +info"  # what the error says that is enough


@contextmanager
def operators_server(folder: Path, *settings: str, port: int = 0) -> Iterator[int]:
    """Its port, any unless one is given. Whatever it is told in `settings`, lines of its configuration."""
    binary = server.find_binary()
    assert binary
    port = port or server.random_port()
    lines = [f"bind {HOST}", f"port {port}", "daemonize no", "appendonly yes", 'save ""', *settings]
    process = subprocess.Popen(
        [binary, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={**os.environ},
    )
    assert process.stdin is not None
    process.stdin.write("\n".join(lines).encode() + b"\n")
    process.stdin.close()
    try:
        assert wait_for(lambda: listens(port) or None, 5.0)
        yield port
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def listens(port: int) -> bool:
    try:
        with StoreSession.opened(StoreUrl(HOST, port, 0, False, "", "")):
            return True
    except RayConnectionError:
        return False


@contextmanager
def tls_in_front(port: int, folder: Path) -> Iterator[tuple[int, Path]]:
    """A port that speaks TLS for the server, made out to "localhost", and the certificate to trust."""
    authority = folder / "certificate.pem"
    key = Ed25519PrivateKey.generate()
    authority.write_bytes(_certificate(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secret = folder / "key.pem"
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context.load_cert_chain(authority, secret)
    front = server.random_port()
    process = get_context("fork").Process(target=_serve, args=(front, port, context))
    process.start()
    try:
        assert wait_for(lambda: _answers(front) or None, 5.0)
        yield front, authority
    finally:
        process.kill()
        process.join()
        process.close()


def _certificate(key: Ed25519PrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, None)
    )
    return made.public_bytes(serialization.Encoding.PEM)


def _serve(front: int, port: int, context: ssl.SSLContext) -> None:
    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(65_536):
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(HOST, port)
        await asyncio.gather(pass_on(reader, inner_writer), pass_on(inner_reader, writer))

    async def serve() -> None:
        listening = await asyncio.start_server(accept, HOST, front, ssl=context)
        await listening.serve_forever()

    asyncio.run(serve())


def _answers(port: int) -> bool:
    try:
        asyncio.run(_touch(port))
    except OSError:
        return False
    return True


async def _touch(port: int) -> None:
    _, writer = await asyncio.open_connection(HOST, port)
    writer.close()
