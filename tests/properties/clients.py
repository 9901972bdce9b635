"""Processes that join an arena and do what a test tells them, one step at a time."""

import os
import signal
import traceback
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from ray import _kernel
from ray.session import processes

PATIENCE_S = 20.0  # for an answer; who takes longer hangs
LEAVE = "leave"


class Hands:
    """What a client process can do; a subclass has a method for each step."""

    def __init__(self, arena: _kernel.Arena) -> None:
        self.arena = arena

    def settle(self) -> None:
        """Gives back at once what was dropped."""
        self.arena.journal_read(0)


class Refused(Exception):
    """The step raised an error of this type."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Client:
    """One such process, as its test sees it."""

    def __init__(
        self, arena: _kernel.Arena, kind: int, hands: type[Hands], root_id: bytes | None = None
    ) -> None:
        self._arena = arena
        self.connection, theirs = Pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            processes.signal_on_parent_death(parent, signal.SIGKILL)
            self.connection.close()
            _serve(arena, kind, hands, root_id, theirs)
        theirs.close()
        self.answer()

    def begin(self, step: str, *args: Any) -> None:
        self.connection.send((step, args))

    def answered(self, timeout_s: float = 0.0) -> bool:
        return self.connection.poll(timeout_s)

    def answer(self) -> Any:
        """What the step returned. Raises Refused if it raised, AssertionError if it takes too long."""
        assert self.connection.poll(PATIENCE_S), f"no answer from process {self.pid} in {PATIENCE_S} s"
        well, value = self.connection.recv()
        if not well:
            raise Refused(value)
        return value

    def do(self, step: str, *args: Any) -> Any:
        self.begin(step, *args)
        return self.answer()

    def kill(self) -> None:
        """Dies and is buried."""
        os.kill(self.pid, signal.SIGKILL)
        self._bury()

    def leave(self) -> None:
        """Ends in good order; killed if it doesn't."""
        self.begin(LEAVE)
        if not self.connection.poll(PATIENCE_S):
            os.kill(self.pid, signal.SIGKILL)
        self._bury()

    def _bury(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        self.connection.close()
        self._arena.bury(self.pid, os.waitstatus_to_exitcode(status))


def _serve(
    arena: _kernel.Arena, kind: int, hands: type[Hands], root_id: bytes | None, connection: Connection
) -> None:
    """In the child, to its end."""
    status = 1
    try:
        arena.register(kind, root_id)
        arena.make_current()
        able = hands(arena)
        connection.send((True, None))
        while True:
            step, args = connection.recv()
            if step == LEAVE:
                break
            try:
                answer = True, getattr(able, step)(*args)
            except Exception as error:
                answer = False, type(error).__name__
            connection.send(answer)
        del able
        arena.leave()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
