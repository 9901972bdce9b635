"""An environment of its own for each peer, under build/bench/, made when it is first needed."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "bench"
LOCKS = ROOT / "requirements"
STAMP = "requirements.sha256"
COMMON = ["numpy", "scikit-learn"]  # what questions themselves need
PIP = ["-m", "pip", "-qq", "--disable-pip-version-check", "--no-input"]


def python_of(name: str, peer: Any, newest: bool = False) -> str:
    """The interpreter to run the peer with; blocks while its environment is installed, minutes perhaps.

    `newest` writes the peer's lock file anew.  Raises CalledProcessError, with pip's words on the
    terminal, if installing fails.
    """
    if not peer.LOCK:
        return sys.executable
    folder = FOLDER / name
    python = folder / "bin" / "python"
    lock = LOCKS / peer.LOCK
    stamp = folder / STAMP
    if newest or not stamp.exists() or stamp.read_text() != digest(lock):
        print(f"Installing {peer.TITLE} into {folder.relative_to(ROOT)} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        wanted = [*peer.PACKAGES, *COMMON] if newest else ["-r", str(lock)]
        subprocess.run([str(python), *PIP, "install", *wanted], check=True)
        if newest:
            write(lock, peer.TITLE, versions(str(python)))
        stamp.write_text(digest(lock))
    return str(python)


def write(lock: Path, title: str, packages: list[str]) -> None:
    head = f"# {title}, and all that it needs, for make bench; written by make bench ARGS=--newest."
    lock.write_text("\n".join([head, *packages, ""]))


def versions(python: str) -> list[str]:
    """What is installed in its environment."""
    command = [python, *PIP, "freeze", "--exclude", "pip", "--exclude", "setuptools"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")[:-1]


def digest(lock: Path) -> str:
    return hashlib.sha256((sys.version + lock.read_text()).encode()).hexdigest()
