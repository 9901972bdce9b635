"""Prints what this driver's tasks print, in the background: in a session that belongs to no script."""

import codecs
import contextlib
import os
import sys
import threading

from ray.core.logs import STREAMS, of_job
from ray.core.system_limits import start_thread

LOOK_S = 0.2
PIECE_BYTES = 64 << 10


class OutputPrinter:
    def __init__(self, folder: str, job: int) -> None:
        self._files = [_Follower(os.path.join(folder, of_job(job, fd)), fd) for fd in STREAMS]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="ray-output-printer", daemon=True)

    def start(self) -> None:
        """Raises SystemLimitError when there may be no more threads."""
        start_thread(self._thread)

    def stop(self) -> None:
        """Prints what is there, and no more."""
        self._stopping.set()
        self._thread.join()
        for file in self._files:
            file.print_new()
            file.close()

    def _follow(self) -> None:
        while not self._stopping.wait(LOOK_S):
            for file in self._files:
                file.print_new()


class _Follower:
    def __init__(self, path: str, fd: int) -> None:
        self._path = path
        self._to = fd
        self._file = -1  # there when something was printed
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def print_new(self) -> None:
        if self._file < 0:
            with contextlib.suppress(OSError):
                self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        while self._file >= 0 and (piece := os.read(self._file, PIECE_BYTES)):
            stream = sys.stdout if self._to == 1 else sys.stderr
            # A closed stream is not the program's end.
            with contextlib.suppress(AttributeError, OSError, ValueError):
                stream.write(self._decoder.decode(piece))
                stream.flush()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
