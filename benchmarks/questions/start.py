"""How long from the shell to the first result of a new interpreter, and to its end? And the import alone?"""

import subprocess
import sys
import time
from typing import Any

from bars import SECONDS, Bar, Row

from questions import Repeats, check

ROWS = [
    Row("first_result", "import, init and first result", SECONDS, (Bar(0.4, 0.2),)),
    Row("whole_script", "the whole script with exit", SECONDS, (Bar(0.5, 0.25),)),
    Row("import", "the import alone", SECONDS, (Bar(0.1, 0.06),)),
]
NEEDS: set[str] = set()
IN_TURNS = True
TIMED_IMPORT = """
import time
began = time.perf_counter()
{}
print(time.perf_counter() - began)
"""


def measure(peer: Any, repeats: Repeats) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {row.name: [] for row in ROWS}
    timed_import = TIMED_IMPORT.format(peer.IMPORT)
    _run(peer.FIRST_RESULT)  # reads the files from disk
    for _ in repeats:
        first_s, whole_s, line = _run(peer.FIRST_RESULT)
        check(line, "42")
        figures["first_result"].append(first_s)
        figures["whole_script"].append(whole_s)
        figures["import"].append(float(_run(timed_import)[2]))
    return figures


def _run(program: str) -> tuple[float, float, str]:
    """Seconds to the first line, seconds to the end, and the line."""
    began = time.perf_counter()
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        first_s = time.perf_counter() - began
    whole_s = time.perf_counter() - began
    check(process.returncode, 0)
    return first_s, whole_s, line.strip()
