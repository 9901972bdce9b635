"""At the limit of workers, a task that waits runs what it waits for."""

import subprocess
import sys
import textwrap


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
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
