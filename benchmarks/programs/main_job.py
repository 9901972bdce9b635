"""The search of examples/main_job.py on any of the systems; prints the scores' digest and the winner."""

import os

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import hashlib
import importlib
import sys

from digits import data, search

TRIALS = 40
SEARCH_SEED = 3


def main() -> None:
    peer = importlib.import_module(f"peers.{sys.argv[1]}")
    digits = data.load()
    settings = search.draw_settings(TRIALS, SEARCH_SEED)
    system = peer.start()
    scores = list(peer.unordered(system, search.trial, settings, (digits.train, digits.validation)))
    peer.stop()
    scores.sort(key=lambda score: (-score.validation_accuracy, score.setting.seed))
    digest = hashlib.sha256(repr(scores).encode()).hexdigest()[:16]
    print(f"{len(scores)} trials, digest {digest}, best {scores[0].validation_accuracy:.2%}")


if __name__ == "__main__":
    main()
