"""Always five tasks in flight: whenever one is finished, its result is used and a new one started.

The work is a search for large primes: each task tests one number, and how long that takes differs
from number to number, so results come in another order than the tasks were started in.
"""

import argparse
import itertools
import sys

import ray

IN_FLIGHT = 5
FIRST = 2**89 + 1
WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)


def is_prime(number: int) -> bool:
    """Miller and Rabin's test; with these witnesses the chance of a mistake is below 4 ** -13."""
    if any(number % small == 0 for small in WITNESSES):
        return number in WITNESSES
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for witness in WITNESSES:
        power = pow(witness, odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True


@ray.remote
def tested(number: int) -> tuple[int, bool]:
    return number, is_prime(number)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", type=int, default=1000, help="numbers to test (1000)")
    parser.add_argument("--redis-address", help="run on the cluster that is there (a session of its own)")
    options = parser.parse_args()

    ray.init(redis_address=options.redis_address)
    numbers = itertools.count(FIRST, 2)
    in_flight = [tested.remote(next(numbers)) for _ in range(IN_FLIGHT)]
    primes: list[int] = []
    order: list[int] = []
    for _ in range(options.tasks):
        ready, in_flight = ray.wait(in_flight)
        number, prime = ray.get(ready[0])
        order.append(number)
        if prime:
            primes.append(number)
        in_flight.append(tested.remote(next(numbers)))
        if len(in_flight) != IN_FLIGHT:
            print(f"Wrong: {len(in_flight)} tasks in flight, not {IN_FLIGHT}.")
            return 1
    last = ray.get(in_flight)
    ray.shutdown()

    seen = sorted(order + [number for number, _ in last])
    expected = [FIRST + 2 * step for step in range(options.tasks + IN_FLIGHT)]
    late = sum(after < before for before, after in itertools.pairwise(order))
    print(f"{len(order)} numbers tested, {len(primes)} primes, the first {min(primes, default=None)}")
    print(f"{late} results came before an earlier one; {IN_FLIGHT} tasks were in flight all the time")
    if seen != expected:
        print("Wrong: some number was tested twice, or never.")
        return 1
    if sorted(primes) != [number for number in sorted(order) if is_prime(number)]:
        print("Wrong: the tasks' primes differ from those found here.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
