"""Replays a seed and tells its story, or looks for seeds that go wrong.

python -m tests.simulator deaths 130
python -m tests.simulator deaths 0-2000
python -m tests.simulator partitions 12    (a cluster with a head: membership, fencing, joining again)
"""

import argparse
import sys

from tests.simulator.membership import CLUSTER_NODES, TROUBLES, play_cluster, story_of_cluster
from tests.simulator.scenario import KINDS, NODES, play, story


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("kind", choices=[*KINDS, *TROUBLES], help="which faults there are")
    parser.add_argument("seeds", help="one, whose story is told, or FIRST-BEYOND")
    parser.add_argument("--nodes", type=int, default=0, help="other than the tests have")
    options = parser.parse_args()
    first, _, beyond = options.seeds.partition("-")
    if not beyond:
        print(_story(options.kind, int(first), options.nodes))
        return 0
    found = 0
    for seed in range(int(first), int(beyond)):
        if problems := _play(options.kind, seed, options.nodes):
            found += 1
            print(
                seed,
                problems[0].strip().rpartition("\n")[2]
                if "Traceback" in problems[0]
                else problems[0].partition("\n")[0],
            )
    return 1 if found else 0


def _play(kind: str, seed: int, nodes: int) -> list[str]:
    if kind in KINDS:
        return play(seed, KINDS[kind], nodes or NODES)
    return play_cluster(seed, TROUBLES[kind], nodes or CLUSTER_NODES)


def _story(kind: str, seed: int, nodes: int) -> str:
    if kind in KINDS:
        return story(seed, KINDS[kind], nodes or NODES)
    return story_of_cluster(seed, TROUBLES[kind], nodes or CLUSTER_NODES)


if __name__ == "__main__":
    sys.exit(main())
