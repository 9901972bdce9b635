"""Asks one question of one system, in that system's own interpreter; run.py starts it.

Writes JSON: the figures, and the versions that they belong to.
"""

import importlib
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path


def main() -> None:
    peer_name, question_name, repeats, out = sys.argv[1:]
    peer = importlib.import_module(f"peers.{peer_name}")
    question = importlib.import_module(f"questions.{question_name}")
    figures = question.measure(peer, int(repeats))
    answer = {
        "figures": figures,
        "version": version(peer.DISTRIBUTION),
        "python": platform.python_version(),
    }
    Path(out).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
