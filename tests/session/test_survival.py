"""Each of the session's own processes is killed: who is replaced, who goes on, and what ends."""

import os
import signal

import pytest

from tests.api.programs import Programs, wait_for
from tests.session.family import Family, all_gone, driver, name_of, port_is_free

# A driver that works for as long as it is told to: tasks, an actor, results of both.
WORK = """
@ray.remote
class Counter:
    def __init__(self):
        self.count = 0
    def add(self):
        self.count += 1
        return self.count, os.getpid()

counter = Counter.remote()
_, actor_pid = ray.get(counter.add.remote())
print(actor_pid, flush=True)
queued = [nap.remote(0.3) for _ in range(6)]
rounds = 1
while not os.path.exists("release"):
    rounds += 1
    assert ray.get([pid.remote() for _ in range(5)]), "tasks"
    assert ray.get(counter.add.remote()) == (rounds, actor_pid), "the actor kept its state"
    time.sleep(0.01)
assert len(ray.get(queued)) == 6
print("fine", flush=True)
"""


def working(programs: Programs) -> tuple[Family, int]:
    running = programs.start(driver(WORK))
    family = Family(running)
    actor = int(running.line())
    family.only("ray-node")
    return family, actor


def finish(programs: Programs, family: Family) -> None:
    (programs.folder / "release").touch()
    done = family.running.finish()
    assert done.code == 0, done.both
    assert done.out.endswith("fine\n")
    assert port_is_free(family.info["redis_address"])


def test_a_killed_template_is_replaced_and_its_workers_go_on(programs: Programs) -> None:
    family, actor = working(programs)
    first = family.only("ray-template")
    before = family.named("ray-worker")
    os.kill(first, signal.SIGKILL)
    second = family.another("ray-template", first)
    assert actor in family.named("ray-worker")
    assert before <= family.named("ray-worker"), "no worker died with its template"
    # Workers that die now are the keeper's children: they are buried all the same, and the new template forks
    # others, since fewer are left than `num_workers`.
    for victim in before - {actor}:
        os.kill(victim, signal.SIGKILL)
    assert wait_for(lambda: (family.named("ray-worker") - before) or None, 5.0)
    assert family.only("ray-template") == second
    # The keeper, which has buried the victims, can start a third one.
    os.kill(second, signal.SIGKILL)
    third = family.another("ray-template", second)
    victim = next(pid for pid in family.named("ray-worker") if pid != actor)
    os.kill(victim, signal.SIGKILL)
    assert wait_for(lambda: victim not in family.named("ray-worker") or None, 5.0)
    assert family.only("ray-template") == third
    finish(programs, family)


def test_a_template_killed_again_and_again_comes_back_at_a_bounded_rate(programs: Programs) -> None:
    family, _ = working(programs)
    template = family.only("ray-template")
    for _ in range(4):
        os.kill(template, signal.SIGKILL)
        template = family.another("ray-template", template)
    finish(programs, family)


def test_a_killed_node_manager_is_replaced(programs: Programs) -> None:
    family, _ = working(programs)
    first = family.only("ray-node")
    os.kill(first, signal.SIGKILL)
    family.another("ray-node", first)
    finish(programs, family)


def test_a_killed_redis_comes_back_at_the_same_address(programs: Programs) -> None:
    family, _ = working(programs)
    os.kill(family.only("valkey-server"), signal.SIGKILL)
    assert wait_for(lambda: not port_is_free(family.info["redis_address"]) or None, 5.0)
    finish(programs, family)


def test_a_killed_keeper_ends_the_session_soon(programs: Programs) -> None:
    source = """
    ray.get(leave_orphans.remote())
    nap.remote(1000)
    print("ready", flush=True)
    try:
        ray.get(nap.remote(1000))
    except ray.errors.SessionEndedError as error:
        print("ended:", error, flush=True)
    time.sleep(1000)
    """
    running = programs.start(driver(source))
    family = Family(running)
    assert running.line() == "ready"
    family.only("ray-node")
    members = family.everyone()
    os.kill(family.keeper, signal.SIGKILL)
    assert all_gone(members), [(pid, name_of(pid)) for pid in members if not all_gone({pid}, 0)]
    assert running.line().startswith("ended:")
    assert port_is_free(family.info["redis_address"])


@pytest.mark.parametrize("others", [("ray-template",), ("ray-node",), ("ray-template", "ray-node")])
def test_a_keeper_killed_together_with_others(programs: Programs, others: tuple[str, ...]) -> None:
    """Whoever is left ends the rest: template, node manager, and in the end each worker by itself."""
    running = programs.start(driver("ray.get([nap.remote(0.01) for _ in range(4)])\ntime.sleep(1000)"))
    family = Family(running)
    family.only("ray-node")
    members = family.everyone()
    for pid in (family.keeper, *(family.only(name) for name in others)):
        os.kill(pid, signal.SIGKILL)
    assert all_gone(members), [(pid, name_of(pid)) for pid in members if not all_gone({pid}, 0)]


def test_a_killed_worker_is_replaced_and_its_task_run_again(programs: Programs) -> None:
    source = """
    @ray.remote
    def once():
        with open("runs", "a") as file:
            file.write("x")
        while not os.path.exists("release"):
            time.sleep(0.01)
        return os.getpid()

    print(ray.get(once.remote()), flush=True)
    """
    running = programs.start(driver(source))
    family = Family(running)
    runs = programs.folder / "runs"
    assert wait_for(lambda: (runs.exists() and runs.read_text() == "x") or None, 5.0)
    for worker in family.named("ray-worker"):
        os.kill(worker, signal.SIGKILL)
    assert wait_for(lambda: runs.read_text() == "xx" or None, 5.0)
    (programs.folder / "release").touch()
    assert running.finish().code == 0


def test_workers_that_cannot_start_end_the_session_with_a_message(programs: Programs) -> None:
    """Here the package itself is broken for them; a fork bomb of failing workers must not be the answer."""
    programs.write("sitecustomize.py", "import sys\nsys.modules['ray.worker.loop'] = None\n")
    source = """
    import ray
    ray.init(num_cpus=1)

    @ray.remote
    def f():
        return 1

    try:
        ray.get(f.remote())
    except ray.errors.SessionEndedError:
        print("ended")
    """
    done = programs.start(source, env={"PYTHONPATH": str(programs.folder)}).finish()
    assert done.code == 0, done.both
    assert done.out == "ended\n"
    assert "template process of this session keeps ending" in done.err


def test_a_driver_is_told_though_nobody_else_is_left(programs: Programs) -> None:
    source = """
    waiting = nap.remote(1000)
    print("ready", flush=True)
    try:
        ray.get(waiting)
    except ray.errors.SessionEndedError:
        print("ended", flush=True)
    """
    running = programs.start(driver(source))
    family = Family(running)
    assert running.line() == "ready"
    family.only("ray-node")
    for pid in family.everyone():
        os.kill(pid, signal.SIGSTOP)
    for pid in family.everyone():
        os.kill(pid, signal.SIGKILL)
    assert running.line() == "ended"
    assert running.finish().code == 0


def test_any_exit_status_of_a_task_is_the_users_own(programs: Programs) -> None:
    source = """
    @ray.remote(max_retries=0)
    def leave(status):
        os._exit(status)

    for _ in range(12):
        try:
            ray.get(leave.remote(70))
        except ray.errors.WorkerCrashedError as error:
            assert error.status == 70, error
    assert ray.get(pid.remote()) > 0
    """
    programs.run(driver(source))
