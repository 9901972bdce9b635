"""The cluster's token: the one secret from which every key of a cluster is made.

It is one line, `ray-token-1:` and 43 characters (32 random bytes in base64url), in a file that only its user
can read. Whoever has it is a member of the cluster, so it is shown nowhere: not by `repr`, not in an error,
not in a pickle.
"""

import base64
import contextlib
import errno
import hashlib
import hmac
import os
import re
import stat
from typing import Any, NoReturn, Self

from ray.errors import ClusterTokenError

PREFIX = "ray-token-1:"
SECRET_BYTES = 32
MAX_FILE_BYTES = 256  # the line has 55 characters and perhaps an end
PATH_VARIABLE = "RAY_TOKEN_FILE"
# Labels of what is derived; another label is another key, and none says anything about the others.
LABEL_CERTIFICATE = "certificate"
LABEL_CONTROL_STORE = "control-store-password"

_SALT = b"ray-token-1"
_DIGEST_BYTES = 32
_FORM = re.compile(re.escape(PREFIX) + r"([A-Za-z0-9_-]{43})")
_ANY_FORM = re.compile(r"ray-token-[0-9]+:")


class ClusterToken:
    """A cluster's secret."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        """`secret` is 32 bytes; anything else raises ValueError."""
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a token's secret has {SECRET_BYTES} bytes, not {len(secret)}")
        self._secret = bytes(secret)

    @classmethod
    def new(cls) -> Self:
        """A token that nobody else has, from the system's random numbers."""
        return cls(os.urandom(SECRET_BYTES))

    @classmethod
    def parse(cls, text: str, source: str = "the token given") -> Self:
        """The token in a line of text, white space around it aside.

        Raises ClusterTokenError, which names `source` and never the text, when it is not one.
        """
        text = text.strip()
        found = _FORM.fullmatch(text)
        if found is None:
            raise ClusterTokenError(source, _what_is_wrong(text))
        secret = base64.urlsafe_b64decode(found[1] + "=")
        token = cls(secret)
        # 43 characters hold two bits more than 32 bytes: two texts of one token would be one too many.
        if token.text != text:
            raise ClusterTokenError(source, "its last character is not one that a token can end with")
        return token

    @property
    def text(self) -> str:
        """The line that is kept in a file, without an end of line. It is the secret itself."""
        return PREFIX + base64.urlsafe_b64encode(self._secret).rstrip(b"=").decode()

    @classmethod
    def load(cls, path: str | None = None) -> Self:
        """The token in that file, or in the one of `default_path`.

        The file must be this user's own, a plain file and not a symbolic link, and readable for nobody else.
        Raises ClusterTokenError, which says what to do, when there is none or it is not to be trusted.
        """
        path = path or default_path()
        try:
            # Without O_NONBLOCK a FIFO put there would be waited for.
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise ClusterTokenError(path, _why_not_opened(error)) from None
        try:
            _check(path, os.fstat(fd))
            data = os.read(fd, MAX_FILE_BYTES + 1)
        except OSError as error:
            raise ClusterTokenError(path, error.strerror or str(error)) from None
        finally:
            os.close(fd)
        if len(data) > MAX_FILE_BYTES:
            raise ClusterTokenError(path, f"it has more than {MAX_FILE_BYTES} bytes, so it is no token")
        return cls.parse(data.decode("ascii", "replace"), path)

    def save(self, path: str | None = None) -> str:
        """Writes it to that file, or to the one of `default_path`, and returns which.

        The file has mode 0600 from its first moment, and appears whole or not at all; one that is there is
        replaced. Its folder is made, with mode 0700, if need be. Raises ClusterTokenError when that fails.
        """
        path = path or default_path()
        folder = os.path.dirname(path) or "."
        temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            fd = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            try:
                with open(fd, "w", encoding="ascii") as file:
                    os.fchmod(fd, 0o600)  # whatever the umask took away
                    file.write(self.text + "\n")
                    file.flush()
                    os.fsync(fd)
                os.replace(temporary, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
        except OSError as error:
            raise ClusterTokenError(path, f"it can't be written: {error.strerror or error}") from None
        return path

    def derive(self, label: str, length: int) -> bytes:
        """`length` bytes that belong to this token and label (HKDF with SHA-256, RFC 5869).

        At most 8,160 bytes; more raise ValueError.
        """
        if not 0 < length <= 255 * _DIGEST_BYTES:
            raise ValueError(f"from 1 to {255 * _DIGEST_BYTES} bytes can be derived, not {length}")
        key = hmac.digest(_SALT, self._secret, hashlib.sha256)
        made, block, number = b"", b"", 0
        while len(made) < length:
            number += 1
            block = hmac.digest(key, block + label.encode() + bytes([number]), hashlib.sha256)
            made += block
        return made[:length]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClusterToken):
            return NotImplemented
        return hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.derive("hash", 8))

    def __repr__(self) -> str:
        return "<ClusterToken, not shown>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            "a cluster's token is not pickled, so that it gets into no value; pass its file's path"
        )


def default_path() -> str:
    """$RAY_TOKEN_FILE, else `ray/token` in the user's folder for configuration."""
    named = os.environ.get(PATH_VARIABLE)
    if named:
        return named
    return os.path.join(configuration_folder(), "token")


def configuration_folder() -> str:
    """The package's own, in the user's folder for configuration. It may not exist."""
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    # Relative ones are to be passed over (XDG Base Directory Specification).
    if not os.path.isabs(folder):
        folder = os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(folder, "ray")


def _what_is_wrong(text: str) -> str:
    if not text:
        return "it is empty"
    if _ANY_FORM.match(text) and not text.startswith(PREFIX):
        return "it is a token of a newer release"
    if text.startswith(PREFIX):
        return f"a token has 43 letters, digits, - or _ after {PREFIX!r}, and nothing else"
    return f"a token begins with {PREFIX!r}"


def _why_not_opened(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "there is no such file"
    if error.errno == errno.ELOOP:
        return "it is a symbolic link, which others may be able to turn; name the file itself"
    return error.strerror or str(error)


def _check(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ClusterTokenError(path, "it is not a plain file")
    if status.st_uid != os.geteuid():
        raise ClusterTokenError(
            path,
            f"it belongs to user {status.st_uid}, and you are user {os.geteuid()}; keep a copy of your own",
        )
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise ClusterTokenError(
            path, f"its mode is {mode:04o}, so others can reach it; if none did, run: chmod 600 {path}"
        )
