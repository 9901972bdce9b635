"""An environment of its own for each peer, under build/bench/, made when it is first needed."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "bench"
STAMP = "requirements.sha256"


def python_of(name: str, peer: Any) -> str:
    """The interpreter to run the peer with; blocks while its environment is installed, minutes perhaps.

    Raises CalledProcessError, with pip's words on the terminal, if that fails.
    """
    if peer.REQUIREMENTS is None:
        return sys.executable
    folder = FOLDER / name
    python = folder / "bin" / "python"
    wanted = digest(peer.REQUIREMENTS)
    stamp = folder / STAMP
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"Installing {peer.TITLE} into {folder.relative_to(ROOT)} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
        subprocess.run([str(python), "-m", "pip", "install", *quiet, *peer.REQUIREMENTS, *COMMON], check=True)
        stamp.write_text(wanted)
    return str(python)


COMMON = ["numpy"]  # what questions themselves need


def digest(requirements: list[str]) -> str:
    """Of the requirements, and of what the files among them say."""
    text = sys.version + "\0".join([*requirements, *COMMON])
    text += "".join(Path(each).read_text() for each in requirements if Path(each).is_file())
    return hashlib.sha256(text.encode()).hexdigest()
