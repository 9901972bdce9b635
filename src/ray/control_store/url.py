"""The address of a control store that is there already: `redis[s]://user:password@host:port/db`.

A URL with a password is a secret: it is read from a file or a variable where possible, handed on through
pipes, and shown without its password.
"""

import dataclasses
import os
import stat
from typing import Self
from urllib.parse import unquote, urlsplit

from ray.errors import InitError

URL_VARIABLE = "RAY_REDIS_URL"
DEFAULT_PORT = 6379
MAX_FILE_BYTES = 4096
EXAMPLE = "redis[s]://user:password@host:port/db"
SCHEMES = {"redis": False, "rediss": True}
OTHERS_BITS = stat.S_IRWXG | stat.S_IRWXO


@dataclasses.dataclass(frozen=True, slots=True)
class StoreUrl:
    """Where the server is, and how one logs in. Its text leaves the password out."""

    host: str
    port: int
    database: int
    has_tls: bool
    user: str  # "": the server's default user
    password: str = dataclasses.field(repr=False)

    def __str__(self) -> str:
        scheme = "rediss" if self.has_tls else "redis"
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        return f"{scheme}://{user}{host}:{self.port}/{self.database}"

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def login(self) -> tuple[str, ...]:
        """The command that logs in; empty where nobody has to."""
        if not self.password:
            return ()
        return ("AUTH", self.user, self.password) if self.user else ("AUTH", self.password)

    @classmethod
    def parse(cls, text: str, source: str) -> Self:
        """`source` says where the text came from; of the text itself errors say nothing, since it may hold a
        password. Raises InitError."""
        try:
            parts = urlsplit(text.strip())
            port = parts.port or DEFAULT_PORT
        except ValueError:
            raise _unfit(source, "its host or port can't be read") from None
        if parts.scheme not in SCHEMES:
            raise _unfit(source, "it begins with neither redis:// nor rediss://")
        if not parts.hostname:
            raise _unfit(source, "it names no host")
        if parts.query or parts.fragment:
            raise _unfit(source, "it has options behind a ? or #, none of which are known here")
        database = parts.path.strip("/") or "0"
        if not (database.isascii() and database.isdigit()):
            raise _unfit(source, "what follows the last slash is not the number of a database")
        if parts.username and not parts.password:
            raise _unfit(source, "it names a user without a password")
        return cls(
            parts.hostname,
            port,
            int(database),
            SCHEMES[parts.scheme],
            unquote(parts.username or ""),
            unquote(parts.password or ""),
        )

    @classmethod
    def load(cls, path: str) -> Self:
        """From the first line of a file that only this user can read. Raises InitError."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise _unfit(path, f"it can't be read ({error.strerror})") from None
        with open(fd, "rb") as file:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise _unfit(path, "it is no plain file")
            if found.st_uid not in (0, os.getuid()) or found.st_mode & OTHERS_BITS:
                raise _unfit(path, f"others can reach it: chmod 600 {path}")
            lines = file.read(MAX_FILE_BYTES).decode(errors="replace").splitlines()
        return cls.parse(lines[0] if lines else "", path)


def _unfit(source: str, reason: str) -> InitError:
    return InitError(f"The control store's URL from {source} can't be used: {reason}. It is {EXAMPLE}.")
