"""One driver starts and ends a session again and again: each is as good as the first, and nothing grows."""

from tests.chaos.attack import Attack, times

CYCLES = times(full=500, short=8)
WARM_UP = times(full=50, short=4)  # cycles in which the driver's own memory finds its size
GROWTH_BYTES = times(full=4096, short=65_536)  # a cycle: what is less than a page in the end is noise
DRIVER = """
import gc, os, sys, threading, time
import ray

from tests.chaos import inside

cycles, warm_up = int(sys.argv[1]), int(sys.argv[2])

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

def cycle(number):
    began = time.monotonic()
    ray.init(num_cpus=2, driver_mode=3)
    assert ray.get([double.remote(i) for i in range(10)]) == [2 * i for i in range(10)]
    assert ray.get(ray.put(bytes([number % 256]) * 300_000)) == bytes([number % 256]) * 300_000
    actor = Sum.remote()
    assert ray.get([actor.add.remote(1) for _ in range(3)]) == [1, 2, 3]
    del actor
    ray.shutdown()
    return time.monotonic() - began

def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def counted():
    gc.collect()
    with open("/proc/self/maps") as file:
        maps = file.read().splitlines()
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "maps of shared memory": sum("memfd" in line for line in maps),
        "children": len(open(f"/proc/self/task/{os.getpid()}/children").read().split()),
    }

for number in range(warm_up):
    cycle(number)
    inside.say(f"warm-up {number}")
before, bytes_before = counted(), resident_bytes()
took_ms = []
for number in range(cycles):
    took_ms.append(1000 * cycle(number))
    inside.say(f"cycle {number}")
after, bytes_after = counted(), resident_bytes()
assert after == before, (before, after)
assert after["maps of shared memory"] == 0, after
assert threading.active_count() == 1, threading.enumerate()
inside.figure("init, work and shutdown, median", sorted(took_ms)[cycles // 2], "ms")
inside.figure("init, work and shutdown, slowest", max(took_ms), "ms")
inside.figure("resident memory", bytes_after / 2**20, "MiB")
growth = (bytes_after - bytes_before) / cycles
inside.figure("growth of the driver a cycle", growth, "bytes", at_most=int(sys.argv[3]))
inside.done()
"""


def test_init_and_shutdown_in_turn(attack: Attack) -> None:
    done = attack.run(DRIVER, str(CYCLES), str(WARM_UP), str(GROWTH_BYTES))
    assert done.err == "", done.both
    assert attack.programs.left() == []
    assert list(attack.programs.temporary.iterdir()) == []
    attack.figure("cycles", CYCLES, "times")
