"""The process of an actor with checkpoints is killed again and again in a run of calls; nobody may see it.

Each call's result depends on all calls before it, in their order.  Which calls ran, and in which process, is
written to a file by the actor itself.
"""

from collections.abc import Iterator

from tests.chaos.attack import Attack, percentile, times
from tests.chaos.events import Event, parsed

INTERVAL = 10
KILLS = times(full=100, short=12)
CALLS_A_KILL = 103  # no multiple of the interval: where a checkpoint is due moves
RUNS = "runs"  # the file
DRIVER = """
import os, random, signal, sys, time, zlib
import ray

from tests.chaos import inside

kills, calls, interval, seed = map(int, sys.argv[1:])
choices = random.Random(seed)
ray.init(num_cpus=3, driver_mode=3)

@ray.remote(checkpoint_interval=interval)
class Chain:
    def __init__(self):
        self.link = 0
        self.bulk = bytearray(10_000)  # a checkpoint that lies in the heap

    def add(self, number):
        inside.tell("run", number, "runs")
        self.link = zlib.crc32(str(number).encode(), self.link)
        return self.link, os.getpid()

@ray.remote
def work(x):
    return x + sum(range(5_000))

def linked(link, number):
    return zlib.crc32(str(number).encode(), link)

chain = Chain.remote()
link = 0
number = 0
ids, seen = [], []
for strike in range(kills + 1):
    new = [chain.add.remote(number + i) for i in range(calls)]
    beside = [work.remote(i) for i in range(20)]
    pid = ray.get(new[0])[1]
    began = time.monotonic()
    if strike:
        time.sleep(choices.uniform(0, duration))  # that of all of them: some kills come after the last
        inside.tell("killed", number, "runs")
        os.kill(pid, signal.SIGKILL)
    results = ray.get(new)
    for i, (value, _) in enumerate(results):
        link = linked(link, number + i)
        assert value == link, (strike, number + i)
    assert ray.get(beside) == [i + sum(range(5_000)) for i in range(20)]
    if not strike:
        duration = time.monotonic() - began
    ids += new
    seen += results
    number += calls
    inside.say(f"strike {strike}")
assert ray.get(ids) == seen, "a result that was seen has changed"
assert ray.get(chain.add.remote(number))[0] == linked(link, number), "the state is the model's"
assert inside.arena().check() == []
del ids, new, chain
inside.done()
"""


def repeats(events: list[Event]) -> Iterator[int]:
    """For each process of the actor but the first: how many of its calls had run before it came."""
    pid, last = 0, -1
    highest = -1  # the last call that has run
    for event in events:
        if event.kind != "run":
            continue
        if event.pid != pid and pid:
            yield highest + 1 - event.number
        if event.pid == pid:
            assert event.number == last + 1, f"{event} after {last}"
        pid, last = event.pid, event.number
        highest = max(highest, last)


def test_actor_with_checkpoints_killed(attack: Attack) -> None:
    attack.run(DRIVER, str(KILLS), str(CALLS_A_KILL), str(INTERVAL), str(attack.random.randrange(1 << 32)))
    events = parsed((attack.programs.folder / RUNS).read_text().splitlines())
    runs = [event for event in events if event.kind == "run"]
    calls = (KILLS + 1) * CALLS_A_KILL + 1
    repeated = list(repeats(events))
    assert {event.number for event in runs} == set(range(calls)), "every call ran"
    assert len(runs) == calls + sum(repeated)
    assert min(repeated) >= 0, "no call was left out"
    attack.figure("killed", len(events) - len(runs), "times", at_least=KILLS)
    attack.figure("calls", calls, "calls", at_least=KILLS * CALLS_A_KILL)
    attack.figure("repeated a kill, most", max(repeated), "calls", at_most=INTERVAL)
    attack.figure("repeated a kill, median", percentile([float(count) for count in repeated], 0.5), "calls")
