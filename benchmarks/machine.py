"""What the figures of a run were measured on."""

import os
import platform
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def described() -> dict[str, str]:
    cpus = Path("/proc/cpuinfo").read_text()
    memory = Path("/proc/meminfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", cpus, re.MULTILINE)
    total = re.search(r"^MemTotal:\s*(\d+) kB", memory, re.MULTILINE)
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(total[1]) / (1 << 20):.0f} GiB" if total else "",
        "virtual": "a virtual machine" if "hypervisor" in cpus else "no virtual machine",
        "system": f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}",
        "python": platform.python_version(),
        "commit": _commit(),
        "load before": " ".join(f"{each:.2f}" for each in os.getloadavg()),
    }


def _commit() -> str:
    """Of this checkout; a plus sign for what is not committed."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
