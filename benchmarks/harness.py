"""Asks one question of one system, in that system's own interpreter; run.py starts it.

Writes JSON: the figures of each row.  Says on standard output how far it is.
"""

import importlib
import json
import sys
from pathlib import Path

from questions import Repeats


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    peer_name, question_name, count, patience_s, out = sys.argv[1:]
    peer = importlib.import_module(f"peers.{peer_name}")
    question = importlib.import_module(f"questions.{question_name}")
    repeats = Repeats(int(count), float(patience_s), say)
    figures = question.measure(peer, repeats)
    Path(out).write_text(json.dumps({"figures": figures, "found": repeats.found}))


if __name__ == "__main__":
    main()
