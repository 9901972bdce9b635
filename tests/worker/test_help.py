"""At the limit of workers, a task that waits runs what it waits for."""

import subprocess
import sys
import textwrap


def run(program: str) -> str:
    """A driver's output on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def test_nesting_far_beyond_the_limit_of_workers() -> None:
    program = """
        import os, ray
        ray.init(num_cpus=2, config={"worker_limit": 3}, driver_mode=ray.SILENT_MODE)

        @ray.remote
        def deep(n):
            return 0 if n == 0 else 1 + ray.get(deep.remote(n - 1))

        @ray.remote
        def tree(n):
            return n if n < 2 else sum(ray.get([tree.remote(n - 1), tree.remote(n - 2)]))

        @ray.remote
        def fails():
            raise ValueError("inside")

        @ray.remote
        def catches():
            try:
                ray.get(fails.remote())
            except ValueError as error:
                return error.function_name

        @ray.remote(max_calls=2)
        def limited(n):
            return 0 if n == 0 else 1 + ray.get(limited.remote(n - 1))

        @ray.remote
        class Actor:
            def deep(self, n):
                return ray.get([deep.remote(n), limited.remote(3)])

            def pid(self):
                return os.getpid()

        patience = 20_000
        assert ray.get(deep.remote(50), timeout=patience) == 50
        assert ray.get(tree.remote(9), timeout=patience) == 34
        assert ray.get([catches.remote() for _ in range(5)], timeout=patience) == ["fails"] * 5
        assert ray.get(limited.remote(20), timeout=patience) == 20
        actor = Actor.remote()
        pid = ray.get(actor.pid.remote(), timeout=patience)
        assert ray.get(actor.deep.remote(20), timeout=patience) == [20, 3]
        assert ray.get(actor.pid.remote(), timeout=patience) == pid
        assert ray._kernel.current().check() == []
    """
    run(program)


def test_a_waiting_task_with_no_frames_left() -> None:
    run("""
        import os, ray, sys
        ray.init(num_cpus=1, config={"worker_limit": 1}, driver_mode=ray.SILENT_MODE)

        @ray.remote(max_retries=0)
        def pid():
            return os.getpid()

        @ray.remote(max_retries=0)
        def deep(frames):
            return deep_in(frames)

        def deep_in(frames):
            return deep_in(frames - 1) if frames else ray.get(pid.remote())

        limit = sys.getrecursionlimit()
        answers = []
        worker = ray.get(pid.remote(), timeout=20_000)
        for frames in range(limit - 60, limit):
            try:
                answers.append(ray.get(deep.remote(frames), timeout=20_000))
            except RecursionError:
                answers.append(0)
        assert set(answers) == {0, worker}
        assert answers == sorted(answers, reverse=True)
        assert ray.get(pid.remote(), timeout=20_000) == worker
        assert ray._kernel.current().check() == []
    """)


def test_a_worker_whose_help_breaks_off_ends_and_all_it_had_runs_again() -> None:
    said = run("""
        import os, ray
        from ray.core import session_state
        ray.init(num_cpus=1, config={"worker_limit": 1}, driver_mode=ray.SILENT_MODE)

        @ray.remote
        def pid():
            return os.getpid()

        @ray.remote
        def waits(first):
            def breaks(work):
                raise MemoryError("amid the help")

            if os.getpid() == first:
                session_state.require("a test").arena.set_helper(breaks)
            return ray.get(pid.remote())

        first = ray.get(pid.remote(), timeout=20_000)
        second = ray.get(waits.remote(first), timeout=20_000)
        assert second not in (0, first)
        assert ray.get(pid.remote(), timeout=20_000) == second
        assert ray._kernel.current().check() == []
    """)
    assert "could not be ended" in said
    assert "MemoryError: amid the help" in said
