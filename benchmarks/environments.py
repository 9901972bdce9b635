"""An environment of its own for each system, under build/bench/, made when it is first needed.

Ours as well: what is only needed to develop would be imported by libraries that look for it, and slow
them down.
"""

import hashlib
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "bench"
LOCKS = ROOT / "requirements"
STAMP = "requirements.sha256"
OURS = "dev.lock"
COMMON = ["numpy", "scikit-learn"]  # what questions themselves need
PIP = ["-m", "pip", "-qq", "--disable-pip-version-check", "--no-input"]


def python_of(name: str, peer: Any, newest: bool = False) -> str:
    """The interpreter to run the peer with; blocks while its environment is installed, minutes perhaps.

    `newest` writes a peer's lock file anew; ours is written by scripts/lock.  Raises CalledProcessError,
    with pip's words on the terminal, if installing fails.
    """
    ours = peer.LOCK == OURS
    newest = newest and not ours
    folder = FOLDER / name
    python = folder / "bin" / "python"
    lock = LOCKS / peer.LOCK
    stamp = folder / STAMP
    if newest or not stamp.exists() or stamp.read_text() != digest(lock):
        print(f"Installing {peer.TITLE} into {folder.relative_to(ROOT)} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        if ours:
            wanted = ["-c", str(lock), *dependencies(), *COMMON]
        else:
            wanted = [*peer.PACKAGES, *COMMON] if newest else ["-r", str(lock)]
        subprocess.run([str(python), *PIP, "install", *wanted], check=True)
        if ours:
            use_checkout(folder)
        if newest:
            write(lock, peer.TITLE, versions(str(python)))
        stamp.write_text(digest(lock))
    return str(python)


def dependencies() -> list[str]:
    """What raycore itself needs."""
    needed: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return needed


def use_checkout(folder: Path) -> None:
    """Puts this checkout on the environment's path, with the kernel that `make build` has built."""
    packages = sysconfig.get_path("purelib", vars={"base": str(folder)})
    (Path(packages) / "raycore.pth").write_text(f"{ROOT / 'src'}\n")


def write(lock: Path, title: str, packages: list[str]) -> None:
    head = f"# {title}, and all that it needs, for make bench; written by make bench ARGS=--newest."
    lock.write_text("\n".join([head, *packages, ""]))


def versions(python: str) -> list[str]:
    """What is installed in its environment."""
    command = [python, *PIP, "freeze", "--exclude", "pip", "--exclude", "setuptools"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")[:-1]


def digest(lock: Path) -> str:
    return hashlib.sha256((sys.version + lock.read_text()).encode()).hexdigest()
