"""Monte Carlo pi: random points in a square, counted by tasks; the share in the circle is pi / 4.

Each task draws from a generator of its own, spawned from one seed, so the answer is the same on any
number of workers; it is checked against the error that chance allows.
"""

import argparse
import math
import sys
import time

import numpy as np

import ray

CHUNK = 250_000  # points drawn at once: bounds a task's memory
ALLOWED_SIGMAS = 5.0


@ray.remote
def points_in_circle(seed: np.random.SeedSequence, points: int) -> int:
    rng = np.random.default_rng(seed)
    inside = 0
    for start in range(0, points, CHUNK):
        x, y = rng.random((2, min(CHUNK, points - start)))
        inside += int(np.count_nonzero(x * x + y * y < 1.0))
    return inside


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", type=int, default=64, help="number of tasks (64)")
    parser.add_argument("--points", type=int, default=1_000_000, help="points a task (1,000,000)")
    parser.add_argument("--redis-address", help="run on the cluster that is there (a session of its own)")
    options = parser.parse_args()

    ray.init(redis_address=options.redis_address)
    began = time.perf_counter()
    seeds = np.random.SeedSequence(1777).spawn(options.tasks)
    counts = ray.get([points_in_circle.remote(seed, options.points) for seed in seeds])
    took = time.perf_counter() - began
    ray.shutdown()

    total = options.tasks * options.points
    share = sum(counts) / total
    sigma = 4 * math.sqrt(math.pi / 4 * (1 - math.pi / 4) / total)
    off = abs(4 * share - math.pi)
    print(f"pi is about {4 * share:.6f}: {off:.1e} off, {off / sigma:.1f} standard deviations")
    print(f"{total:,} points in {options.tasks} tasks, {took:.2f} s")
    if len(set(counts)) == 1 and options.tasks > 1:
        print("Wrong: all tasks drew the same points.")
        return 1
    if off > ALLOWED_SIGMAS * sigma:
        print(f"Wrong: more than {ALLOWED_SIGMAS:.0f} standard deviations off.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
