"""A control store's server outside of a session."""

import os
import signal

from ray.control_store import server
from tests.api.programs import wait_for

HOST = "127.0.0.1"


class RunningServer:
    def __init__(self) -> None:
        binary = server.find_binary()
        assert binary
        self.binary = binary
        self.password = os.urandom(16).hex()
        self.port = server.random_port()
        self.address = f"{HOST}:{self.port}"
        self.pid = 0
        self.start()

    def start(self) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            try:
                log_fd = os.open(os.devnull, os.O_WRONLY)
                server.exec_server(self.binary, HOST, self.port, self.password, log_fd)
            finally:
                os._exit(1)
        assert wait_for(lambda: server.answers(HOST, self.port, self.password) or None, 5.0)

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
