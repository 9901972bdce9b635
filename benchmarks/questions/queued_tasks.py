"""100,000 tasks queued while all workers are held up, then drained: how fast, in how much memory?"""

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bars import BYTES, RATE, Bar, Row
from memory import Memory
from peers import WORKERS
from work import hold, noop

from questions import Repeats, check

ROWS = [
    Row("queued_tasks", "100,000 tasks queued and drained", RATE, (Bar(80, 200, "pypi_ray"),)),
    Row("queued_bytes", "memory of a queued task, all processes", BYTES, (Bar(1000, 500),)),
    Row("queued_shared_bytes", "of it shared memory", BYTES, compared=False),
    Row("queued_driver_bytes", "of it the driver's own", BYTES, compared=False),
]
NEEDS: set[str] = set()
LEFT_OUT = {"dask": "five minutes a repeat"}
COUNT = 100_000
WARM = 100
SETTLE_S = 1.0


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    system = peer.start()
    task, holder = system.remote(noop), system.remote(hold)
    check(system.get([task.remote() for _ in range(WARM)]), [b"ok"] * WARM)
    figures: dict[str, list[float]] = {row.name: [] for row in ROWS}
    with tempfile.TemporaryDirectory() as folder:
        for number in repeats:
            fifo = Path(folder) / str(number)
            os.mkfifo(fifo)
            holders = [holder.remote(str(fifo)) for _ in range(WORKERS)]
            time.sleep(SETTLE_S)
            before = Memory.of_family()
            began = time.perf_counter()
            ids = [task.remote() for _ in range(COUNT)]
            took = time.perf_counter() - began
            if number == 0:  # later, memory that was freed is used again
                time.sleep(SETTLE_S)
                grown = Memory.of_family() - before
                figures["queued_bytes"].append(grown.total / COUNT)
                figures["queued_shared_bytes"].append(grown.shared / COUNT)
                figures["queued_driver_bytes"].append(grown.private.get(os.getpid(), 0) / COUNT)
            began = time.perf_counter()
            let_go = release(fifo)
            found = system.get(ids)
            took += time.perf_counter() - began
            check(found, [b"ok"] * COUNT)
            check(system.get(holders), [None] * WORKERS)
            os.close(let_go)
            figures["queued_tasks"].append(COUNT / took)
            del ids
    peer.stop()
    return figures


def release(fifo: Path) -> int:
    """Opens it for writing, which lets every reader go on; stays open for those that come later."""
    threading.Thread(target=hold, args=(str(fifo),), daemon=True).start()  # there is one reader at least
    return os.open(fifo, os.O_WRONLY)
