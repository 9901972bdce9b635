"""Starts a system, runs one task on each worker, says "ready", and waits for the end of its input."""

import importlib
import sys

from peers import WORKERS
from work import noop


def main() -> None:
    peer = importlib.import_module(f"peers.{sys.argv[1]}")
    system = peer.start()
    task = system.remote(noop)
    system.get([task.remote() for _ in range(WORKERS)])
    print("ready", flush=True)
    sys.stdin.read()
    peer.stop()


if __name__ == "__main__":
    main()
