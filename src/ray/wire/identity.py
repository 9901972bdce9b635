"""What a node shows and demands of others: one certificate, which every holder of the token makes for itself.

The certificate and its Ed25519 key follow from the token alone, byte for byte: all nodes of a cluster have
the same one, and nothing has to be signed, sent or renewed. Each side of a connection shows it and accepts no
other, in TLS 1.3, so that a peer without the token does not get past the handshake. Names in certificates,
and clocks, play no part: it is valid for ever, and ends with the token.
"""

import hashlib
import os
import ssl
from collections.abc import Sequence
from typing import Self

from ray.wire.token import LABEL_CERTIFICATE, ClusterToken

# What a connection is for (ALPN, RFC 7301).
LINK = "ray-link/1"
BULK = "ray-bulk/2"
REDIS = "ray-redis/1"
RELAY = "ray-relay/1"

COMMON_NAME = "ray cluster"
SERIAL_NUMBER = 1
_SEED_BYTES = 32


class Identity:
    """The certificate of a cluster's nodes, and the contexts that show and demand it.

    `pem` is key and certificate, a secret like the token; `fingerprint` the certificate's SHA-256 in
    hexadecimal.
    """

    def __init__(self, pem: bytes) -> None:
        """From the `pem` of another one: this takes a millisecond and no library."""
        self.pem = pem
        _, begin, rest = pem.decode("ascii").partition(ssl.PEM_HEADER)
        self._certificate = ssl.PEM_cert_to_DER_cert(begin + rest)
        self.fingerprint = hashlib.sha256(self._certificate).hexdigest()
        self._client_contexts: dict[str, ssl.SSLContext] = {}

    @classmethod
    def of(cls, token: ClusterToken) -> Self:
        """The one that belongs to a token.

        Imports the library that makes certificates (60 ms, 11 MiB), so that it is best done in a process that
        ends soon, which hands on `pem`.
        """
        return cls(_make(token.derive(LABEL_CERTIFICATE, _SEED_BYTES)))

    def server_context(self, protocols: Sequence[str]) -> ssl.SSLContext:
        """A context for accepting connections for these purposes."""
        context = self._context(ssl.PROTOCOL_TLS_SERVER, protocols)
        # A resumed session would be one more thing to keep, and would send messages after the handshake.
        context.num_tickets = 0
        return context

    def client_context(self, protocol: str) -> ssl.SSLContext:
        """The context for connecting for that purpose."""
        context = self._client_contexts.get(protocol)
        if context is None:
            context = self._client_contexts[protocol] = self._context(ssl.PROTOCOL_TLS_CLIENT, [protocol])
        return context

    def shown_by(self, tls: ssl.SSLObject | ssl.SSLSocket) -> bool:
        """Whether the other side of a finished handshake has shown this very certificate."""
        return tls.getpeercert(binary_form=True) == self._certificate

    def __repr__(self) -> str:
        return f"<Identity {self.fingerprint}>"

    def _context(self, kind: int, protocols: Sequence[str]) -> ssl.SSLContext:
        context = ssl.SSLContext(kind)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
        context.load_verify_locations(cadata=self._certificate)
        context.set_alpn_protocols(list(protocols))
        # The library takes keys from files only. This one has no name, and is gone when it has been read.
        fd = os.memfd_create("ray-identity", os.MFD_CLOEXEC)
        try:
            os.fchmod(fd, 0o600)
            os.write(fd, self.pem)
            context.load_cert_chain(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        return context


def _make(seed: bytes) -> bytes:
    """Key and certificate. Every field is fixed, and Ed25519 signatures have no random part (RFC 8032), so
    the same seed gives the same bytes everywhere."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(seed)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, COMMON_NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(SERIAL_NUMBER)
        .not_valid_before(datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC))
        # It vouches for itself only: nothing that it might sign is accepted.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, None)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)
