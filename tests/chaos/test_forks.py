"""A driver whose threads are busy forks again and again: the parent goes on, the child is told what to do."""

from tests.chaos.attack import Attack, times

FORKS = times(full=1000, short=60)
DRIVER = """
import os, signal, sys, threading, time
import ray

from tests.chaos import inside

forks = int(sys.argv[1])
ray.init(num_cpus=2, driver_mode=3)

@ray.remote
def double(x):
    return 2 * x

@ray.remote
class Sum:
    def __init__(self):
        self.total = 0
    def add(self, x):
        self.total += x
        return self.total

def busy(seed):
    actor = Sum.remote()
    total = 0
    while not over.is_set():
        ids = [double.remote(i) for i in range(10)]
        kept = ray.put(bytes(5000))
        ready, rest = ray.wait(ids, num_returns=5)
        assert len(ready) == 5 and len(rest) == 5
        assert ray.get(ids) == [2 * i for i in range(10)]
        total += seed
        assert ray.get(actor.add.remote(seed)) == total
        assert ray.get(kept) == bytes(5000)
        rounds[seed] += 1

def told(call):
    try:
        call()
    except ray.errors.ForkedProcessError as error:
        return "ray.init(redis_address=" in str(error) and "spawn" in str(error)
    return False

def child(way):
    # The calls; then what else an ordinary child does to what it has inherited.
    calls = [
        lambda: ray.get(kept), lambda: ray.put(1), lambda: double.remote(1), lambda: ray.wait([kept]),
        lambda: actor.add.remote(1), lambda: ray.error_info(),
    ]
    if not all(told(call) for call in calls):
        os._exit(3)
    if way == 0:
        os._exit(0)
    if way == 1:
        globals().clear()  # every id and handle is dropped
        import gc, os as system
        gc.collect()
        system._exit(0)
    if way == 2:
        os.execv("/bin/true", ["true"])
    sys.exit(0)  # what is registered for the exit runs

over = threading.Event()
rounds = [0] * 4
kept = ray.put([1, 2, 3])
actor = Sum.remote()
ray.get([actor.add.remote(0), double.remote(1)])
baseline = inside.Baseline()
threads = [threading.Thread(target=busy, args=(seed,)) for seed in range(4)]
for thread in threads:
    thread.start()
for number in range(forks):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # a child that hangs is a failure
        child(number % 4)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, f"the child of fork {number} ended with {status}"
    assert ray.get(kept) == [1, 2, 3]
    assert ray.get(actor.add.remote(1)) == number + 1
    inside.say(f"fork {number}")
over.set()
for thread in threads:
    thread.join()
assert all(rounds), f"a thread has failed: {rounds}"
inside.figure("rounds of the threads beside", sum(rounds), "rounds")
baseline.check(allow={"references": 2})
inside.done()
"""


def test_fork_in_a_driver_with_threads(attack: Attack) -> None:
    done = attack.run(DRIVER, str(FORKS))
    assert done.err == "", done.both
    attack.figure("forks", FORKS, "times")
