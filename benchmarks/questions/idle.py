"""What does a session cost that does nothing: memory, processors, processes?"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bars import MEBIBYTES, PERCENT, Bar, Row, Unit
from memory import Memory, cpu_seconds, family, marked

from questions import Repeats, check, name_of

ROWS = [
    Row("idle_memory", "idle memory: PSS, and shared memory not mapped", MEBIBYTES, (Bar(100, 60),)),
    Row("idle_cpu", "idle CPU, of one core", PERCENT, (Bar(0.5),)),
    Row("idle_processes", "processes, the script's own included", Unit("processes"), compared=False),
]
NEEDS: set[str] = set()
SETTLE_S = 5.0
WINDOW_S = 2.0


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    """Of a program of its own, that has run one task on each worker and waits for its input to end."""
    figures: dict[str, list[float]] = {row.name: [] for row in ROWS}
    command = [sys.executable, str(Path(__file__).parents[1] / "programs" / "idle.py"), name_of(peer)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=marked(), **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        check(process.stdout.readline(), b"ready\n")
        time.sleep(SETTLE_S)
        for _ in repeats:
            before, began = cpu_seconds(family(process.pid)), time.perf_counter()
            time.sleep(WINDOW_S)
            spent = cpu_seconds(family(process.pid)) - before
            took = time.perf_counter() - began
            memory = Memory.of_family(process.pid)
            figures["idle_cpu"].append(100 * spent / took)
            figures["idle_memory"].append(memory.total / (1 << 20))
            figures["idle_processes"].append(len(memory.private))
        process.stdin.close()
    check(process.returncode, 0)
    return figures
