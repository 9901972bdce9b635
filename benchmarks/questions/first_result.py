"""How long from the shell: a new interpreter, import, init, and the result of a first task?"""

import os
import subprocess
import sys
import time
from typing import Any

from floors import AtMost

from questions import check

TITLE = "import, init and first result"
UNIT = "s"
FLOOR = AtMost(0.6)


def measure(peer: Any, repeats: int) -> list[float]:
    figures = []
    for repeat in range(repeats + 1):
        began = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-u", "-c", peer.FIRST_RESULT],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(os.environ),
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            took = time.perf_counter() - began
            _, errors = process.communicate()
        if process.returncode != 0:
            raise RuntimeError(errors.decode(errors="replace"))
        check(line.strip(), b"42")
        if repeat:  # the first reads the files from disk
            figures.append(took)
    return figures
