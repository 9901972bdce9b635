"""Ctrl-C during what must not be left half-way: a session that starts or ends."""

import atexit
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Self

_innermost: "HeldBack | None" = None


class HeldBack:
    """While inside, the main thread's SIGINT is only noted; what it should have done is done on leaving.

    Does nothing in other threads, which no SIGINT interrupts, and where the program ignores SIGINT."""

    def __enter__(self) -> Self:
        global _innermost
        self._outer = _innermost
        self._came = False
        self._handler = signal.getsignal(signal.SIGINT)
        self._holds = callable(self._handler) and threading.current_thread() is threading.main_thread()
        if self._holds:
            signal.signal(signal.SIGINT, self._note)
            _innermost = self
        return self

    def __exit__(self, *_: object) -> None:
        global _innermost
        if not self._holds:
            return
        _innermost = self._outer
        signal.signal(signal.SIGINT, self._handler)
        self.let_through()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True

    def let_through(self) -> None:
        """Calls the program's own handler, if a SIGINT has come."""
        if self._came:
            self._came = False
            assert callable(self._handler)
            self._handler(signal.SIGINT, None)


def check() -> None:
    """For long waits inside: raises KeyboardInterrupt, or whatever the program's handler does."""
    if _innermost is not None and threading.current_thread() is threading.main_thread():
        _innermost.let_through()


def at_exit(end: Callable[[], None]) -> None:
    """Calls `end` when the interpreter exits; a Ctrl-C means nothing meanwhile."""
    ending = _ending(end)
    next(ending)
    atexit.register(next, ending, None)


def _ending(end: Callable[[], None]) -> Iterator[None]:
    # A generator: what `next` resumes from C is inside of `try` at once.  In a function, a Ctrl-C just before
    # it would be raised at its first line, where nothing can catch it.
    handler = None
    try:
        yield
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        end()
    finally:
        signal.signal(signal.SIGINT, handler)  # the program may have more to do that shall be interruptible
