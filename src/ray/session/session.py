"""A session as the driver that started or joined it holds it."""

import atexit
import contextlib
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray import _kernel
from ray.config import Config
from ray.session import jobs
from ray.session.keeper_watch import KeeperWatch
from ray.session.launch import KeeperHandle, end_session
from ray.session.record import SessionRecord

if TYPE_CHECKING:
    from ray.session.code_giver import CodeGiver  # hashes and packs: of no use to who has started its session


class Session:
    """Made by `start_session` and `attach_session`.

    `arena` is the node's shared memory, joined as a driver and current in this process; `info` what
    `ray.init` returns; `owned` whether this driver's end is the session's end. `output` is where what its
    tasks print is found, when they don't print where the driver does: for standard output and error, by
    their numbers, a path or a descriptor, which is the taker's.
    """

    def __init__(
        self,
        arena: _kernel.Arena,
        record: SessionRecord,
        config: Config,
        keeper: KeeperHandle | None,
        output: Mapping[int, str | int] | None = None,
    ) -> None:
        self.arena = arena
        self.record = record
        self.config = config
        self.owned = keeper is not None
        self.output = output or {}
        self._keeper = keeper
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._ended = False
        self._code: CodeGiver | None = None
        self._watch = KeeperWatch(record.keeper_pid, self._keeper_died)
        atexit.register(self.end)

    @property
    def info(self) -> dict[str, Any]:
        return self.record.info()

    def give_code(self, giver: "CodeGiver") -> None:
        """Has the script's modules given to nodes that ask for them, until the end. Raises
        SystemLimitError."""
        giver.start()
        self._code = giver

    def end(self) -> None:
        """Leaves the session, and ends all of it if this driver has started it. Later calls do nothing.

        Blocks until the session's processes are gone, two seconds at most. Memory under arrays that the
        program still holds stays valid. Does nothing in a process forked from the driver.
        """
        if os.getpid() != self._pid:
            return
        with self._lock:
            if self._ended:
                return
            self._ended = True
            atexit.unregister(self.end)  # it would keep the arena mapped
            self._watch.stop()
            if self._code is not None:
                self._code.stop()
            try:
                if self._keeper is not None:
                    self._keeper.end(self.config.end_ms)
                else:
                    jobs.write_end(self.arena)
            finally:
                self._leave()

    def _keeper_died(self) -> None:
        """All that waits in the arena ends; so do processes of the session, if there are any left."""
        self.arena.shut()
        if self.owned:
            end_session(self.record.token)

    def _leave(self) -> None:
        with contextlib.suppress(_kernel.ArenaClosed):  # the keeper has shut it
            self.arena.leave()
