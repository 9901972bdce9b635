"""Signals in a worker: what a handler raises ends user code, never the worker's own.

Python runs a handler between any two steps of the main thread.  Raised amid the worker's own steps, its
exception would leave a task taken and not run, or run and not answered, and somebody would wait for ever.
"""

import os
import signal
import traceback
from types import FrameType
from typing import Any

from ray.worker import environment
from ray.worker.execution import Executor


class _Guarded:
    """A handler of user code's, as it is set while the worker lives."""

    def __init__(self, executor: Executor, handler: Any) -> None:
        self._executor = executor
        self._said = False  # once is enough, and a handler that comes faster than it is said would never end
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        executor = self._executor
        interruptible, executor.interruptible = executor.interruptible, False
        if interruptible and not _begins_to_help(frame):
            executor.interruptible = True
            self.handler(number, frame)
            return
        try:
            self.handler(number, frame)
        except KeyboardInterrupt:  # to a worker that is idle, or at its own work, it means nothing
            pass
        except SystemExit as leaving:
            environment.flush()
            os._exit(leaving.code if isinstance(leaving.code, int) else leaving.code is not None)
        except BaseException:
            if not self._said:
                self._said = True
                traceback.print_exc()
        finally:
            executor.interruptible = interruptible


def _begins_to_help(frame: FrameType | None) -> bool:
    """Whether a signal came at the first step of `Executor.help`, not yet marked as no user code."""
    while frame is not None and frame.f_code is _Guarded.__call__.__code__:  # amid the handler of one before
        frame = frame.f_back
    return frame is not None and frame.f_code is Executor.help.__code__


def interrupt_user_code_only(executor: Executor) -> None:
    """From now on: guards the handler of SIGINT, and those that user code sets through `signal.signal`.

    They are guarded as they are set, so that a task pays nothing; user code sees its own."""
    set_handler, get_handler = signal.signal, signal.getsignal

    def shown(handler: Any) -> Any:
        return handler.handler if type(handler) is _Guarded else handler

    def guarded_signal(signalnum: int, handler: Any) -> Any:
        """Sets the handler of a signal and returns the one before, as `signal.signal` does."""
        return shown(set_handler(signalnum, _Guarded(executor, handler) if callable(handler) else handler))

    def guarded_getsignal(signalnum: int) -> Any:
        """The handler of a signal, as `signal.getsignal` gives it."""
        return shown(get_handler(signalnum))

    signal.signal, signal.getsignal = guarded_signal, guarded_getsignal
    signal.signal(signal.SIGINT, signal.default_int_handler)
