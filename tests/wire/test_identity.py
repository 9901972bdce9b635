"""The certificate follows from the token, and only who has the same one gets in."""

import os
import ssl
import subprocess
import sys

import pytest

from ray.wire.identity import Identity
from ray.wire.token import ClusterToken
from tests.wire.running import IDENTITY, TOKEN

# Of the token of the bytes 0 to 31. A release that makes another one can't talk to this one.
FINGERPRINT = "da275c1eacadc149b6cb65ef662095a45df4799e6986957b435428e821fa6886"

ALONE = """
import sys, types
package = types.ModuleType("ray")  # as in a node manager, where the package itself is not imported
package.__path__ = [sys.argv[1]]
sys.modules["ray"] = package
import ray.wire.bulk, ray.wire.connecting, ray.wire.listener, ray.wire.pipe
from ray.wire.identity import Identity
for part in sys.argv[2:]:
    print(Identity(part.encode()).server_context(["a"]).verify_mode)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_the_same_token_makes_the_same_certificate_everywhere() -> None:
    assert Identity.of(ClusterToken.parse(TOKEN.text)).pem == IDENTITY.pem
    assert IDENTITY.fingerprint == FINGERPRINT
    assert Identity(IDENTITY.pem).fingerprint == FINGERPRINT
    assert Identity.of(ClusterToken.new()).fingerprint != FINGERPRINT


def test_a_process_that_is_given_the_pem_imports_neither_pickle_nor_the_library() -> None:
    source = os.path.dirname(sys.modules["ray"].__file__ or "")
    command = [sys.executable, "-c", ALONE, source, IDENTITY.pem.decode()]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    assert said.startswith("2\n")  # CERT_REQUIRED
    loaded = set(said.split())
    assert loaded & {"pickle", "_pickle", "cloudpickle", "cryptography", "redis", "numpy"} == set()
    assert "ssl" in loaded


def test_it_is_not_shown() -> None:
    assert repr(IDENTITY) == f"<Identity {FINGERPRINT}>"


def shake(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A handshake in memory. Raises what either side raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)
    done = set()
    for _ in range(6):
        for end in ends:
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                pass
    assert done == set(ends)
    return ends


def test_both_sides_show_it_in_tls_1_3() -> None:
    ends = shake(IDENTITY.client_context("b"), IDENTITY.server_context(["a", "b"]))
    for end in ends:
        assert end.version() == "TLSv1.3"
        assert end.selected_alpn_protocol() == "b"
        assert IDENTITY.shown_by(end)


def plain_context(kind: int) -> ssl.SSLContext:
    context = ssl.SSLContext(kind)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_who_shows_nothing_or_something_else_does_not_get_in() -> None:
    server = IDENTITY.server_context(["a"])
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake(plain_context(ssl.PROTOCOL_TLS_CLIENT), server)
    other = Identity.of(ClusterToken.new())
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(other.client_context("a"), server)
    # One that shows another token's certificate, and does not mind ours.
    careless = other.client_context("a")
    careless.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(careless, server)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(IDENTITY.client_context("a"), other.server_context(["a"]))


def test_older_tls_is_not_spoken() -> None:
    old = IDENTITY.client_context("old")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION"):
        shake(old, IDENTITY.server_context(["old"]))


def test_what_our_key_signs_is_not_accepted_either() -> None:
    """The certificate itself is trusted, and makes no others trusted."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    issuer = serialization.load_pem_private_key(IDENTITY.pem, None)
    assert isinstance(issuer, Ed25519PrivateKey)
    own = Ed25519PrivateKey.generate()
    name = x509.load_pem_x509_certificate(IDENTITY.pem).subject
    utc = datetime.UTC
    signed = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "guest")]))
        .issuer_name(name)
        .public_key(own.public_key())
        .serial_number(2)
        .not_valid_before(datetime.datetime(1970, 1, 1, tzinfo=utc))
        .not_valid_after(datetime.datetime(9999, 1, 1, tzinfo=utc))
        .sign(issuer, None)
    )
    pem = own.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + signed.public_bytes(serialization.Encoding.PEM)
    guest = Identity(pem).client_context("a")
    guest.load_verify_locations(cadata=IDENTITY._certificate)
    with pytest.raises(ssl.SSLError):
        shake(guest, IDENTITY.server_context(["a"]))
