"""How a driver of another user and a keeper show each other that they know their cluster's token.

Neither sends the token, or anything from which it could be found: each sends an HMAC (RFC 2104) over fresh
random numbers of both, under a key that is derived from the token. Bound into it are the socket's name and
the user ids that the system gives to each side for the other (SO_PEERCRED, unix(7)). So who takes a
keeper's place, and hands on what the two say, is told nothing and given nothing: the user ids don't match.
"""

import os

KEY_LABEL = "admission"  # of the key, among what is derived from a token
KEY_BYTES = 32
NONCE_BYTES = 32
PROOF_BYTES = 32
DRIVER, KEEPER = b"driver", b"keeper"


class Transcript:
    """What both sides of one handshake know of it. No dataclass: a keeper imports this."""

    def __init__(
        self, name: str, driver_uid: int, keeper_uid: int, keeper_nonce: bytes, driver_nonce: bytes
    ) -> None:
        self._text = b"ray admission\0%b\0%d\0%d\0%b%b" % (
            name.encode(),
            driver_uid,
            keeper_uid,
            keeper_nonce,
            driver_nonce,
        )

    def proof(self, key: bytes, side: bytes) -> bytes:
        """What `side` shows to the other one."""
        import hmac  # late: in most sessions a keeper never needs it

        return hmac.digest(key, self._text + side, "sha256")

    def is_proven(self, key: bytes, side: bytes, shown: bytes) -> bool:
        """Whether `side` knows the key. Takes the same time whatever is wrong."""
        import hmac

        return hmac.compare_digest(self.proof(key, side), shown)


def nonce() -> bytes:
    return os.urandom(NONCE_BYTES)
