"""How tasks that must run at the same time find out that they do, and wait for a test's word."""

import os
import time
import uuid
from pathlib import Path

PATIENCE_S = 15.0
POLL_S = 0.002


def meet(folder: str, count: int, patience_s: float = PATIENCE_S) -> bool:
    """True once `count` callers are inside at the same time; False if they were not within the time."""
    Path(folder, uuid.uuid4().hex).touch()
    deadline = time.monotonic() + patience_s
    while len(os.listdir(folder)) < count:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def wait_open(gate: str, patience_s: float = PATIENCE_S) -> bool:
    """Waits until the file is there."""
    deadline = time.monotonic() + patience_s
    while not os.path.exists(gate):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
