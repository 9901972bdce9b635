"""Prints what this driver's tasks print, in the background: in a session that belongs to no script."""

import codecs
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping

from ray.core.system_limits import start_thread

LOOK_S = 0.2
STOP_S = 1.0  # for what is there when the driver ends; what is printed faster than it can be shown is cut off
PIECE_BYTES = 64 << 10


class OutputPrinter:
    def __init__(self, files: Mapping[int, str | int]) -> None:
        """`files` are those with what goes to standard output and error, by the numbers of these: paths, or
        descriptors, which are closed in the end."""
        self._files = [_Follower(file, stream) for stream, file in files.items()]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="ray-output-printer", daemon=True)

    def start(self) -> None:
        """Raises SystemLimitError when there may be no more threads."""
        start_thread(self._thread)

    def stop(self) -> None:
        """Prints what is there, for a second at most."""
        self._stopping.set()
        self._thread.join(STOP_S)
        if self._thread.is_alive():  # whoever reads what the driver prints has stopped reading
            return
        deadline = time.monotonic() + STOP_S
        for file in self._files:
            file.print_until(file.size(), lambda: time.monotonic() > deadline)
            file.close()

    def _follow(self) -> None:
        while not self._stopping.wait(LOOK_S):
            for file in self._files:
                file.print_until(file.size(), self._stopping.is_set)


class _Follower:
    def __init__(self, file: str | int, stream: int) -> None:
        self._path = file if isinstance(file, str) else ""
        self._to = stream
        self._file = -1 if isinstance(file, str) else file  # of a path: there when something was printed
        self._place = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def size(self) -> int:
        if self._file < 0:
            with contextlib.suppress(OSError):
                self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        return os.fstat(self._file).st_size if self._file >= 0 else 0

    def print_until(self, end: int, is_over: Callable[[], bool]) -> None:
        """What is new in the first so many bytes of the file, unless the time is over."""
        while self._place < end and not is_over():
            piece = os.read(self._file, min(PIECE_BYTES, end - self._place))
            if not piece:
                return
            self._place += len(piece)
            stream = sys.stdout if self._to == 1 else sys.stderr
            # A closed stream is not the program's end.
            with contextlib.suppress(AttributeError, LookupError, OSError, ValueError):
                encoding = getattr(stream, "encoding", None) or "utf-8"
                text = self._decoder.decode(piece)
                stream.write(text.encode(encoding, "replace").decode(encoding))
                stream.flush()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
